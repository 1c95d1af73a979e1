"""What the documents name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "deploy/README.md")
PACKAGES = (
    *(ROOT / "server" / "colloquy_server", ROOT / "slack_bot" / "colloquy_slack"),
    ROOT / "clients" / "python" / "colloquy",
)
MADE = {"data/dev.key", "data/"}
"""Files that are there when something ran."""


def named(document: str) -> set[str]:
    """The files that a document names in backticks or links to."""
    text = (ROOT / document).read_text("utf-8")
    found = re.findall(r"`([\w./-]+/|[\w./-]+\.(?:py|yml|md|proto|jsonl|lock))`", text)
    links = re.findall(r"\]\((?!https?:|#)([^)]+)\)", text)
    return {*found, *(str(Path(document).parent / link) for link in links)} - MADE


def exists(name: str, document: str = "") -> bool:
    """Whether a path is there, seen from its document, the root or a package, or, when it is only a
    name, anywhere in a package."""
    if any((folder / name).exists() for folder in ((ROOT / document).parent, ROOT, *PACKAGES)):
        return True
    return "/" not in name.rstrip("/") and any(any(folder.rglob(name)) for folder in PACKAGES)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_is_named_is_there(document: str) -> None:
    names = named(document)
    assert names
    assert not [name for name in names if not exists(name, document)]


def test_what_is_configured_here_is_what_is_shipped() -> None:
    """A copy would be edited, and another one installed."""
    found = {path.name: path for path in (ROOT / "config").iterdir()}
    assert found.keys() == {"ai_models.yml", "slack_manifest.yml"}
    for path in found.values():
        assert path.is_symlink()
        assert path.resolve(strict=True).parent in PACKAGES


def test_a_file_that_is_not_there_is_noticed() -> None:
    assert not exists("replies/no_such_module.py")
    assert not exists("no_such_module.py")
