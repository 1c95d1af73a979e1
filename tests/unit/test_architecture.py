"""The rooms of the house and the doors between them, as CONTRIBUTING.md describes them.

Imports are read from the syntax tree, those inside functions and under TYPE_CHECKING too: a type
that is borrowed from a room above ties two rooms together as well as a call does.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("server", "clients", "slack_bot", "migrations")

# A module of server/ may import those of its own row and of the rows below it.
ROWS = (
    {"__main__"},
    {"app"},
    {"service", "admin", "attachments", "interceptors"},
    {"replies", "writing", "upkeep", "titles", "live", "watching", "context"},
    {"repository"},
    {"models"},
)
# Who may import what, of the modules of server/.
ONLY = {
    "grpc": {"app", "service", "admin", "attachments", "handlers", "interceptors"},
    "openai": {"providers"},
    "sqlalchemy": {"database", "migrate", "repository", "models"},
    "alembic": {"migrate"},
}
# The distributions of gRPC: the one rule is for all of them.
GRPC = ("grpc", "grpc_health", "grpc_reflection", "grpc_status")


def modules(room: str) -> list[str]:
    """The dotted names of a room's modules; none when the room is not built yet."""
    names = []
    for path in sorted((ROOT / room).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


@cache
def imports(module: str) -> frozenset[str]:
    """The dotted names that a module imports: `from a import b` may mean a module, so a and a.b."""
    path = ROOT / Path(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return frozenset(names_imported(ast.parse(path.read_text("utf-8")), package))


def names_imported(tree: ast.AST, package: str) -> Iterator[str]:
    """The names in the import statements of a syntax tree, relative ones made absolute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # One dot is the package that the module is in, each further one a package above.
            above = package.split(".")[: 1 - node.level or None] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def rooms_imported(module: str) -> set[str]:
    return {name.split(".")[0] for name in imports(module)}


def part(module: str) -> str:
    """The room that a dotted name is in."""
    return module.split(".")[1] if "." in module else "__init__"


def row(module: str) -> int | None:
    return next((n for n, names in enumerate(ROWS) if part(module) in names), None)


def reached(module: str, known: frozenset[str]) -> dict[str, str]:
    """Every module of server/ that a module imports, by itself or through others, and through whom.

    Those in a row of their own are not looked into: the rule is checked for each of them.
    """
    found: dict[str, str] = {}
    queue = [module]
    while queue:
        through = queue.pop()
        for name in imports(through) & known - {module, *found}:
            found[name] = through
            if row(name) is None:
                queue.append(name)
    return found


SERVER = modules("server")
EVERYTHING = [module for room in ROOMS for module in modules(room)]


@pytest.mark.parametrize("module", SERVER)
def test_imports_in_the_server_point_down(module: str) -> None:
    own = row(module)
    if own is None:
        # A module without a row is a tool for all: it is looked into through those that have one.
        return
    upward = {
        name: through
        for name, through in reached(module, frozenset(SERVER)).items()
        if (other := row(name)) is not None and other < own
    }
    assert not upward, f"{module} reaches modules above it (reached: through): {upward}"


@pytest.mark.parametrize("module", SERVER)
def test_a_library_is_known_where_it_belongs(module: str) -> None:
    libraries = {"grpc" if name in GRPC else name for name in rooms_imported(module)}
    misplaced = {
        library
        for library, allowed in ONLY.items()
        if library in libraries and part(module) not in allowed
    }
    assert not misplaced, f"{module} imports {misplaced}; those who may: {ONLY}"


@pytest.mark.parametrize("module", EVERYTHING)
def test_rooms_know_only_the_rooms_they_may(module: str) -> None:
    forbidden = {
        "server": {"clients", "slack_bot", "tests"},
        "clients": {"server", "slack_bot", "migrations", "tests"},
        "slack_bot": {"server", "migrations", "tests"},
        "migrations": {"clients", "slack_bot", "tests"},
    }[module.split(".")[0]]
    assert not rooms_imported(module) & forbidden


def test_the_server_exists() -> None:
    """The tests above would all pass on an empty list."""
    assert SERVER


def test_relative_imports_and_those_in_functions_are_seen() -> None:
    tree = ast.parse("def f():\n    from . import live\n    from ..clients import api\nimport grpc")
    assert set(names_imported(tree, "colloquy_server.database.repository")) == {
        *("colloquy_server.database.repository", "colloquy_server.database.repository.live"),
        *("server.clients", "server.clients.api"),
        "grpc",
    }
