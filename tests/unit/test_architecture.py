"""The distributions, their rooms and the doors between them, as CONTRIBUTING.md describes them.

Imports are read from the syntax tree, those inside functions and under TYPE_CHECKING too: a type
that is borrowed from a room above ties two rooms together as well as a call does.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

MAX_LINES = 450
"""Of a file: what is longer does not fit in the head."""

OURS = ("colloquy", "colloquy_server", "colloquy_slack", "tests", "bench", "migrations")
"""The packages of this repository."""


@dataclass(frozen=True)
class Distribution:
    """A folder of modules and its rules. A room is a folder or a module right below the package;
    `rooms` says which other rooms each may import, and where there are any, all are named."""

    folder: str
    package: str
    knows: frozenset[str] = frozenset()
    """What it may import of the packages of OURS beside itself, with all that is in it."""
    rooms: Mapping[str, Collection[str]] = field(default_factory=dict)
    libraries: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Libraries that only some rooms, or only some modules of a room, may import."""
    generated: str = ""
    """The room whose files are generated, of any length."""


def _server_rooms() -> dict[str, set[str]]:
    base = {"clock", "concurrency", "confinement", "errors", "logs", "settings"}
    base |= {"children", "metrics", "telemetry", "tracing"}
    rooms: dict[str, set[str]] = {"__init__": set(), **dict.fromkeys(base, base)}
    rooms["confinement"] = set()
    rooms["database"] = base
    rooms["files"] = rooms["providers"] = base | {"database"}
    rooms["webhooks"] = base | {"database", "providers"}
    rooms["context"] = base | {"database", "files", "providers"}
    rooms["replies"] = rooms["context"] | {"context"}
    rooms["api"] = rooms["replies"] | {"replies", "webhooks"}
    rooms["web"] = rooms["api"] | {"api"}
    top = {"__main__", "app", "backup", "commands", "development", "doctor", "process", "serving"}
    top |= {"shared_port", "supervisor", "worker"}
    everything = {*rooms, *top}
    return rooms | {name: everything - {name} for name in top}


def _client_rooms() -> dict[str, set[str]]:
    base = {
        "admin_calls",
        "budget_calls",
        "budget_text",
        "calls",
        "channel",
        "config",
        "deduplication",
        "errors",
        "file_transfer",
        "resumption",
    }
    base |= {"retry", "session_calls", "transcript", "webhook_calls"}
    rooms = {"api": set[str](), **dict.fromkeys(base, base | {"api"})}
    rooms["aio"] = rooms["sync"] = base | {"api"}
    rooms["__init__"] = base | {"aio", "sync"}
    rooms["operations"] = set()
    rooms["terminal"] = {"__init__", *rooms}
    rooms["__main__"] = {"terminal"}
    return rooms


def _slack_rooms() -> dict[str, set[str]]:
    base = {"action_ids", "external_ids", "failpoints", "logs", "mentions", "message_text"}
    base |= {"metrics", "prompts", "settings", "slack_api", "telemetry"}
    rooms = {name: set[str]() for name in ("__init__", *base)}
    rooms["telemetry"] = {"logs", "metrics"}
    rooms["slack_api"] = {"telemetry"}
    rooms["database"] = set()
    rooms["runtime"] = {"failpoints", "database", "telemetry"}
    rooms["workspaces"] = base | {"database", "runtime"}
    rooms["surfaces"] = rooms["outgoing"] = rooms["workspaces"] | {"workspaces"}
    rooms["serving"] = rooms["outgoing"] | {"outgoing"}
    rooms["incoming"] = rooms["surfaces"] | {"surfaces"}
    top = {"__main__", "app", "commands", "doctor", "process"}
    everything = {*rooms, *top}
    return rooms | dict.fromkeys(top, everything)


DISTRIBUTIONS = (
    Distribution(
        "clients/python",
        "colloquy",
        rooms=_client_rooms(),
        libraries={
            "grpc": {"aio", "sync", "api", "calls", "channel", "errors", "file_transfer"},
            "typer": {"terminal"},
            "rich": {"terminal"},
            "prompt_toolkit": {"terminal"},
            "dotenv": {"terminal"},
            "opentelemetry": {"operations"},
            "prometheus_client": {"operations"},
        },
        generated="api",
    ),
    Distribution(
        "server",
        "colloquy_server",
        knows=frozenset({"colloquy.api", "colloquy.operations"}),
        rooms=_server_rooms(),
        libraries={
            "grpc": {"api", "app"},
            "google": {"api", "web"},
            "colloquy.api": {"api", "app", "web"},
            "connectrpc": {"web"},
            "uvicorn": {"web"},
            "starlette": {"web", "app"},
            "openai": {"providers.transcription"},
            "aiohttp": {
                "providers.connection",
                "api.identity_provider",
                "webhooks.addresses",
                "webhooks.sender",
            },
            "joserfc": {"api.identity_provider", "api.identity_tokens"},
            "sqlalchemy": {"database"},
            "alembic": {"database.migrate"},
            "obstore": {"files.storage"},
            "opentelemetry": {"telemetry", "tracing"},
        },
    ),
    Distribution(
        "slack_bot",
        "colloquy_slack",
        knows=frozenset({"colloquy"}),
        rooms=_slack_rooms(),
        libraries={
            "slack_bolt": {"incoming", "app", "workspaces.installations"},
            "slack_sdk": {"slack_api", "workspaces", "incoming.bolt_app", "app", "doctor"},
            "cryptography": {"workspaces.encryption"},
            "alembic": {"database.engine"},
            "slackify_markdown": {"outgoing.mrkdwn"},
            "markdown_it": {"outgoing.mrkdwn", "outgoing.plain_words"},
        },
    ),
    Distribution("migrations/server", "", knows=frozenset({"colloquy_server"})),
    Distribution("migrations/slack", "", knows=frozenset({"colloquy_slack"})),
)

# The distributions of gRPC: the one rule is for all of them.
GRPC = ("grpc", "grpc_health", "grpc_reflection", "grpc_status")


# --- reading imports ------------------------------------------------------------------------------


def files(folder: str) -> list[Path]:
    """The Python files of a folder, without those that a link leads to."""
    top = ROOT / folder
    return [
        path
        for path in sorted(top.rglob("*.py"))
        if not any(parent.is_symlink() for parent in (path, *path.parents) if parent != top)
    ]


def modules(distribution: Distribution) -> dict[str, Path]:
    """The dotted names of a distribution's modules, and their files."""
    found = {}
    for path in files(distribution.folder):
        parts = path.relative_to(ROOT / distribution.folder).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(module: str, path: Path) -> frozenset[str]:
    """The dotted names that a module imports: `from a import b` may mean a module, so a and a.b."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return frozenset(names_imported(parsed(path), package))


@cache
def parsed(path: Path) -> ast.AST:
    text = path.read_text("utf-8")
    try:
        return ast.parse(text)
    except SystemError:
        # Python 3.11 counts how deep it is in one place for all that parse at once, and garbage
        # that is collected meanwhile may have code that parses, too.
        return ast.parse(text)


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


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def room(module: str) -> str:
    """The room that a dotted name is in."""
    return module.split(".")[1] if "." in module else "__init__"


# --- the rules ------------------------------------------------------------------------------------

WITH_ROOMS = [distribution for distribution in DISTRIBUTIONS if distribution.rooms]


def broken(
    distribution: Distribution, rule: Callable[[str, Path], Collection[object]]
) -> dict[str, Collection[object]]:
    """The modules of a distribution for which a rule finds something."""
    found = {module: rule(module, path) for module, path in modules(distribution).items()}
    return {module: what for module, what in found.items() if what}


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda each: each.folder)
def test_a_distribution_knows_only_what_it_may(distribution: Distribution) -> None:
    def foreign(module: str, path: Path) -> set[str]:
        return {
            name
            for name in imports(module, path)
            if name.split(".")[0] in set(OURS) - {distribution.package}
            and not any(is_within(name, known) for known in distribution.knows)
        }

    assert broken(distribution, foreign) == {}, f"it may import {set(distribution.knows)} of ours"


@pytest.mark.parametrize("distribution", WITH_ROOMS, ids=lambda each: each.package)
def test_imports_between_rooms_point_one_way(distribution: Distribution) -> None:
    known = modules(distribution)

    def above(module: str, path: Path) -> set[str]:
        own = room(module)
        assert own in distribution.rooms, f"{own} is a new room: say what it may import"
        return {
            name
            for name in imports(module, path) & known.keys() - {distribution.package}
            if room(name) not in {own, *distribution.rooms[own]}
        }

    assert broken(distribution, above) == {}, f"who may import what: {distribution.rooms}"


@pytest.mark.parametrize("distribution", WITH_ROOMS, ids=lambda each: each.package)
def test_no_module_imports_itself_through_others(distribution: Distribution) -> None:
    known = modules(distribution)
    graph = {}
    for module, path in known.items():
        names = imports(module, path) & known.keys()
        # A module that is imported from its package: the package itself is not meant.
        above = {name for name in names if any(is_within(other, name) for other in names - {name})}
        graph[module] = names - above
    assert circle(graph) == []


@pytest.mark.parametrize("distribution", WITH_ROOMS, ids=lambda each: each.package)
def test_the_rooms_are_in_an_order(distribution: Distribution) -> None:
    """No table of rooms may allow two of them to import each other, except the base and the top,
    whose modules the test above keeps in an order."""
    packages = {
        name for name in distribution.rooms
        if (ROOT / distribution.folder / distribution.package / name).is_dir()
    }  # fmt: skip
    graph = {name: packages.intersection(distribution.rooms[name]) for name in packages}
    assert circle(graph) == []


@pytest.mark.parametrize("distribution", WITH_ROOMS, ids=lambda each: each.package)
def test_a_library_is_known_where_it_belongs(distribution: Distribution) -> None:
    def misplaced(module: str, path: Path) -> set[str]:
        names = {"grpc" if name.split(".")[0] in GRPC else name for name in imports(module, path)}
        return {
            library
            for library, places in distribution.libraries.items()
            if any(is_within(name, library) for name in names)
            and not any(is_within(module, f"{distribution.package}.{place}") for place in places)
        }

    assert broken(distribution, misplaced) == {}, f"those who may: {distribution.libraries}"


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda each: each.folder)
def test_a_file_fits_in_the_head(distribution: Distribution) -> None:
    def beyond(module: str, path: Path) -> list[str]:
        if distribution.generated and room(module) == distribution.generated:
            return []
        return path.read_text("utf-8").splitlines()[MAX_LINES:]

    assert broken(distribution, beyond) == {}


# --- whether the rules would notice ---------------------------------------------------------------


def circle(graph: Mapping[str, Collection[str]]) -> list[str]:
    """Modules that import each other in a circle; none when there is no circle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda each: each.folder)
def test_a_distribution_has_modules(distribution: Distribution) -> None:
    """The tests above would all pass on an empty list."""
    assert len(modules(distribution)) > 1
    if distribution.package:
        assert distribution.package in modules(distribution)
        assert all(is_within(name, distribution.package) for name in modules(distribution))


@pytest.mark.parametrize("distribution", WITH_ROOMS, ids=lambda each: each.package)
def test_every_room_and_every_place_of_a_library_is_there(distribution: Distribution) -> None:
    known = modules(distribution)
    places = {place for places in distribution.libraries.values() for place in places}
    missing = {
        name
        for name in {*distribution.rooms, *places} - {"__init__"}
        if f"{distribution.package}.{name}" not in known
    }
    assert not missing


def test_links_are_not_followed() -> None:
    assert not any("migrations" in module for module in modules(DISTRIBUTIONS[1]))


def test_a_circle_is_seen() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}


def test_relative_imports_and_those_in_functions_are_seen() -> None:
    tree = ast.parse("def f():\n    from . import live\n    from ..clients import api\nimport grpc")
    assert set(names_imported(tree, "colloquy_server.database.repository")) == {
        *("colloquy_server.database.repository", "colloquy_server.database.repository.live"),
        *("colloquy_server.database.clients", "colloquy_server.database.clients.api"),
        "grpc",
    }


def test_imports_for_types_are_seen() -> None:
    tree = ast.parse("if TYPE_CHECKING:\n    from colloquy_server.api import watcher")
    assert "colloquy_server.api.watcher" in set(names_imported(tree, "colloquy_server.replies"))
