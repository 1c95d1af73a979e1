"""What a release is made of: one version, and nothing that is not committed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from scripts import dist

DOCKERFILE = dist.ROOT / "deploy" / "Dockerfile"


def test_there_is_one_version_of_everything() -> None:
    assert len(dist.versions()) == 6
    assert dist.version() == dist.versions()["server"]


def test_no_release_is_made_of_several_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "versions", lambda: {"server": "1.0.0", "slack_bot": "1.0.1"})
    with pytest.raises(dist.Refused, match=r"server 1\.0\.0, slack_bot 1\.0\.1"):
        dist.version()


def test_no_release_is_made_of_what_is_not_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    monkeypatch.setattr(dist, "ROOT", tmp_path)
    dist.check_clean()
    (tmp_path / "new.py").write_text("")
    with pytest.raises(dist.Refused, match=r"new\.py"):
        dist.check_clean()


def test_the_image_is_built_from_what_the_dockerfile_copies() -> None:
    ignore = (dist.ROOT / "deploy" / "Dockerfile.dockerignore").read_text("utf-8")
    let_in = {line[1:] for line in ignore.splitlines() if line.startswith("!")}
    own = {"deploy/Dockerfile", "deploy/Dockerfile.dockerignore"}
    assert set(dist.IMAGE) - own == let_in
