"""What `colloquy doctor` finds, in the words that it says it in.

Each distribution that runs as a process names its checkup in its entry points, in the group GROUP:
a callable without arguments that makes a Checkup.
"""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import entry_points
from typing import Protocol

from colloquy.operations.log_safety import name_error

GROUP = "colloquy.checkups"

_ALIKE = 0.87
"""Of two names, as difflib measures it, for the one to be taken for a slip of the other: a letter
or two, or a sign between words."""

_OF_CLIENTS = frozenset(
    {
        *("CONVERSATION_ADDRESS", "CONVERSATION_API_KEY", "OIDC_SCOPE"),
        *("CONVERSATION_TLS_CA_FILE", "CONVERSATION_TLS_CERT_FILE", "CONVERSATION_TLS_KEY_FILE"),
    }
)
"""Settings of the clients, which may stand in the same `.env`."""


class Level(Enum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """It runs, but perhaps not as was meant."""
    FAIL = "fail"
    """It does not run, or not for long."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `said` never holds a secret."""

    level: Level
    what: str
    said: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f"\n        → {self.remedy}" if self.remedy else ""
        return f"{self.level.value:4}  {self.what}: {self.said}{remedy}"


def ok(what: str, said: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, what, said)


def warn(what: str, said: str, remedy: str) -> Finding:
    """Perhaps not as was meant."""
    return Finding(Level.WARN, what, said, remedy)


def fail(what: str, said: str, remedy: str) -> Finding:
    """It does not run."""
    return Finding(Level.FAIL, what, said, remedy)


class Checkup(Protocol):
    """Looks at what one kind of process needs."""

    environ: Mapping[str, str]
    """What it reads its settings from."""
    names: Collection[str]
    """The settings that it knows."""

    @property
    def is_due(self) -> bool:
        """Whether there is any sign that such a process is to run here."""

    def findings(self) -> AsyncIterator[Finding]:
        """Looks, one thing after the other."""


async def examine(wanted: Collection[str]) -> AsyncIterator[Finding]:
    """Looks at all that is `wanted`, or if that is nothing at all that is due here. Raises
    LookupError when something is wanted that is not installed."""
    checkups: dict[str, Checkup] = {
        point.name: point.load()() for point in entry_points(group=GROUP)
    }
    if missing := set(wanted) - set(checkups):
        raise LookupError(f"there is nothing to check by the name of {', '.join(sorted(missing))}")
    known = _OF_CLIENTS.union(*(one.names for one in checkups.values()))
    names = {name for one in checkups.values() for name in one.environ}
    for name, meant in misspelt(names, known):
        yield warn("settings", f"{name} is no setting, and is ignored", f"did you mean {meant}?")
    for name, checkup in sorted(checkups.items()):
        if name in wanted or (not wanted and checkup.is_due):
            try:
                async for finding in checkup.findings():
                    yield finding
            except Exception as error:
                yield fail(name, f"could not be looked at: {name_error(error)}", "report this")


def misspelt(names: Iterable[str], known: Collection[str]) -> list[tuple[str, str]]:
    """Those of the names that look like a slip of a known one, with that one."""
    upper = {name.upper() for name in known}
    found = []
    for name in sorted(set(names)):
        if name.upper() not in upper:
            meant = difflib.get_close_matches(name.upper(), sorted(upper), 1, _ALIKE)
            found += [(name, one) for one in meant]
    return found
