"""What the documents name is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "deploy/README.md"),
    *("docs/administration.md", "docs/files.md", "docs/identity.md", "docs/security.md"),
    *("docs/operations.md", "docs/slack.md", "docs/web.md", "docs/webhooks.md"),
)
TESTS = ROOT / "tests"
SECURITY = "docs/security.md"
PACKAGES = (
    *(ROOT / "server" / "colloquy_server", ROOT / "slack_bot" / "colloquy_slack"),
    *(ROOT / "clients" / "python" / "colloquy", ROOT / "clients" / "web" / "src"),
)
MADE = {"data/dev.key", "data/", "dist/"}
"""Files that are there when something ran."""


def named(document: str) -> set[str]:
    """The files that a document names in backticks or links to."""
    text = (ROOT / document).read_text("utf-8")
    found = re.findall(r"`([\w./-]+/|[\w./-]+\.(?:py|ts|yml|md|proto|jsonl|lock))`", text)
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)", text)
    return {*found, *(str(Path(document).parent / link) for link in links)} - MADE


def headings(document: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", (ROOT / document).read_text("utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in found}


def named_tests(text: str) -> list[str]:
    """The tests that a text names, as file::test below the folder of tests."""
    return re.findall(r"`([\w/]+\.py::\w+)`", text)


def found_in(file: str) -> set[str]:
    """The tests of a file, without running it; none where there is no such file."""
    path = TESTS / file
    if not path.is_file():
        return set()
    return {
        node.name
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


def rows(text: str) -> list[list[str]]:
    """The rows of the tables whose last column is `test`."""
    found, is_wanted = [], False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            is_wanted = False
        elif cells[-1] == "test":
            is_wanted = True
        elif is_wanted and set(line) - set("|- "):
            found.append(cells)
    return found


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


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_heading_that_is_linked_to_is_there(document: str) -> None:
    text = (ROOT / document).read_text("utf-8")
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", text):
        linked = (ROOT / document).parent / target if target else ROOT / document
        assert anchor in headings(str(linked)), f"{target}#{anchor}"


def test_every_test_that_shows_a_threat_held_is_there() -> None:
    """Whoever renames such a test, or removes it, has the threat model to answer to."""
    names = named_tests((ROOT / SECURITY).read_text("utf-8"))
    assert len(set(names)) > 100
    lost = [name for name in names if name.partition("::")[2] not in found_in(name.split("::")[0])]
    assert not lost


def test_every_threat_has_its_test() -> None:
    lines = rows((ROOT / SECURITY).read_text("utf-8"))
    assert len(lines) > 70
    for *said, tests in lines:
        assert all(said), said
        assert named_tests(tests), said
        assert re.sub(r"`[^`]+`", "", tests).strip(" ") == "", f"{said}: more than tests"


def test_what_is_configured_here_is_what_is_shipped() -> None:
    """A copy would be edited, and another one installed."""
    found = {path.name: path for path in (ROOT / "config").iterdir()}
    assert found.keys() == {"ai_models.yml", "slack_manifest.yml"}
    for path in found.values():
        assert path.is_symlink()
        assert path.resolve(strict=True).parent in PACKAGES


def test_a_test_that_is_not_there_is_noticed() -> None:
    here = str(Path(__file__).relative_to(TESTS))
    assert "test_a_test_that_is_not_there_is_noticed" in found_in(here)
    assert "found_in" not in found_in(here)
    assert not found_in("unit/test_no_such.py")


def test_a_file_that_is_not_there_is_noticed() -> None:
    assert not exists("replies/no_such_module.py")
    assert not exists("no_such_module.py")
