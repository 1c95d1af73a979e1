"""What keeps others' code and our own keys in sight: the bill of materials, the audit, the scan."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from scripts import audit, make_sbom, scan_secrets


def test_the_bill_of_materials_names_all_that_is_pinned(tmp_path: Path) -> None:
    make_sbom.write(tmp_path / "new" / "sbom.json")
    bill = json.loads((tmp_path / "new" / "sbom.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "colloquy-server"
    named = {(one["name"], one["version"]) for one in bill["components"]}
    pinned = set()
    for lock in make_sbom.LOCKS:
        text = (make_sbom.ROOT / lock).read_text("utf-8")
        pinned |= set(re.findall(r"^([a-z0-9._-]+)==(\S+)", text, re.MULTILINE | re.IGNORECASE))
    assert len(pinned) > 50
    assert named == pinned


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("key = 'AKIA" + "QWERTYUIOP123456'", "AWS Access Key"),
        ("token: ghp_" + "a1B2" * 9, "GitHub Token"),
        ("-----BEGIN " + "PRIVATE KEY-----", "Private Key"),
        ("xoxb-" + "123456789012-abcdefABCDEF", "Slack Token"),
        ("postgresql://me:" + "a-real-password@db/x", "Basic Auth Credentials"),
    ],
)
def test_a_key_that_somebody_left_is_found(
    line: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / "a.txt").write_text(f"nothing\n{line}\n")
    (tmp_path / "b.txt").write_text("postgresql://user:password@db/x")
    (tmp_path / "c.bin").write_bytes(b"\xff\xfe\xfd")
    subprocess.run(["git", "-C", tmp_path, "add", "."], check=True)
    monkeypatch.setattr(scan_secrets, "ROOT", tmp_path)
    assert scan_secrets.problems() == [f"a.txt:2: {kind}"]


def test_an_audit_tells_what_is_known_from_what_could_not_be_asked() -> None:
    skipped = {"name": "a", "skip_reason": "not found"}
    fine = {"name": "b", "version": "1", "vulns": []}
    bad = {"name": "c", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["2"]}]}
    unfixed = {"name": "d", "version": "1", "vulns": [{"id": "X-2", "fix_versions": []}]}
    assert audit.known([skipped, fine]) == []
    assert audit.known([fine, bad, unfixed]) == [
        "c 1: X-1 (fixed in 2)",
        "d 1: X-2 (fixed in no version yet)",
    ]
    with pytest.raises(audit.Unreachable):
        audit.known([skipped])


def test_an_audit_that_cannot_be_had_fails_unless_it_may_be_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(timeout: float | None) -> list[str]:
        raise audit.Unreachable("it takes too long")

    monkeypatch.setattr(audit, "vulnerabilities", away)
    monkeypatch.setattr("sys.argv", ["audit"])
    with pytest.raises(SystemExit, match="cannot be asked"):
        audit.main()
    monkeypatch.setattr("sys.argv", ["audit", "--if-reachable"])
    audit.main()
    assert capsys.readouterr().out.startswith("audit skipped: ")
    monkeypatch.setattr(audit, "vulnerabilities", lambda timeout: ["c 1: X-1"])
    with pytest.raises(SystemExit, match="X-1"):
        audit.main()
