"""A server that also tells what it holds, in a line `measured` of its log: at SIGUSR1 as it stands,
at SIGUSR2 after it has collected garbage."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections import Counter, deque
from collections.abc import Iterator, Set
from functools import _lru_cache_wrapper
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import structlog
from colloquy_server import process
from colloquy_server.app import App

log = structlog.get_logger()

_ROOMS = ("colloquy_server", "colloquy.operations")
_TABLES = (dict, list, Set, deque, WeakKeyDictionary, WeakValueDictionary)


def run() -> int:
    """Serves as `colloquy serve` does; returns the process's exit code."""
    vars(process)["App"] = _MeasuredApp
    return process.run_server()


class _MeasuredApp(App):
    async def start(self) -> None:
        await super().start()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self._tell)
        loop.add_signal_handler(signal.SIGUSR2, self._collect_and_tell)

    def _collect_and_tell(self) -> None:
        self._tell(garbage=gc.collect())

    def _tell(self, **more: int) -> None:
        log.info(
            "measured",
            tasks=len(asyncio.all_tasks()),
            objects=len(gc.get_objects()),
            tables=dict(+_tables(self)),
            **more,
        )


def _tables(app: App) -> Counter[str]:
    """How many entries are in each table that the server holds: in what `app` has, and in the
    modules, by class and attribute; of all objects of a class together."""
    found: Counter[str] = Counter()
    seen: set[int] = set()
    left: list[Any] = [app]
    for name, module in list(sys.modules.items()):
        if name.startswith(_ROOMS):
            for attribute, value in list(vars(module).items()):
                if not attribute.startswith("__"):
                    _note(found, left, seen, f"{name.rpartition('.')[2]}.{attribute}", value)
    while left:
        thing = left.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        for attribute, value in _attributes(thing):
            _note(found, left, seen, f"{type(thing).__name__}.{attribute}", value)
    return found


def _note(found: Counter[str], left: list[Any], seen: set[int], name: str, value: Any) -> None:
    if isinstance(value, _TABLES):
        if id(value) in seen:
            return
        seen.add(id(value))
        found[name] += len(value)
        entries = [*value.values(), *value] if hasattr(value, "values") else [*value]
        left.extend(entry for entry in entries if _is_ours(entry))
    elif isinstance(value, _lru_cache_wrapper):
        # One that has a size stays within it.
        if value.cache_parameters()["maxsize"] is None and id(value) not in seen:
            seen.add(id(value))
            found[name] += value.cache_info().currsize
    elif _is_ours(value):
        left.append(value)


def _is_ours(value: Any) -> bool:
    return type(value).__module__.startswith(_ROOMS)


def _attributes(thing: Any) -> Iterator[tuple[str, Any]]:
    yield from list(getattr(thing, "__dict__", {}).items())
    for kind in type(thing).__mro__:
        slots = getattr(kind, "__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(thing, name):
                yield name, getattr(thing, name)
