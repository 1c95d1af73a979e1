"""What goes wrong on demand: calls that fail, and calls that wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from tests.fakes.slack.record import Call


@dataclass
class Fault:
    """What goes wrong with calls of a method; see Faults.fail."""

    method: str
    error: str | None = None
    status: int | None = None
    retry_after: int | None = None
    times: int | None = 1
    when: Callable[[Call], bool] | None = None
    drop: Literal["before", "after"] | None = None
    delay: float = 0


@dataclass
class Gate:
    """A call of a method that waits; see Faults.hold."""

    method: str
    applied: bool
    when: Callable[[Call], bool] | None
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    call: Call | None = None
    """The call that waits, once `reached`."""
    _opened: asyncio.Event = field(default_factory=asyncio.Event)

    def open(self) -> None:
        """Let the call go on."""
        self._opened.set()

    async def wait(self, call: Call) -> None:
        self.call = call
        self.reached.set()
        await self._opened.wait()


class Faults:
    """The faults and gates of a double; they are taken up by its calls in turn."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._gates: list[Gate] = []

    def fail(
        self,
        method: str,
        error: str | None = None,
        *,
        times: int | None = 1,
        status: int | None = None,
        retry_after: int | None = None,
        drop: Literal["before", "after"] | None = None,
        delay: float = 0,
        when: Callable[[Call], bool] | None = None,
    ) -> Fault:
        """Make the next calls of a method (`*`: of any) go wrong.

        `error`: Slack's error code. `status`: an HTTP error. `retry_after`: a 429. `drop`: the
        connection is reset before Slack did anything, or after it did it: then the caller cannot
        know. `delay`: real seconds before that, or before a normal answer. `times`: None is for
        ever. `when`: only calls for which this is true.
        """
        fault = Fault(method, error, status, retry_after, times, when, drop, delay)
        self._faults.append(fault)
        return fault

    def mend(self) -> None:
        """Forget all faults."""
        self._faults.clear()

    def hold(
        self, method: str, *, applied: bool = True, when: Callable[[Call], bool] | None = None
    ) -> Gate:
        """Stop the next call of a method, after (or before) Slack did it, until the gate opens.

        `await gate.reached.wait()`, do something to the app (kill it), `gate.open()`.
        """
        gate = Gate(method, applied, when)
        self._gates.append(gate)
        return gate

    def fault_of(self, call: Call) -> Fault | None:
        for fault in self._faults:
            if fault.method not in {"*", call.method} or fault.times == 0:
                continue
            if fault.when is not None and not fault.when(call):
                continue
            if fault.times is not None:
                fault.times -= 1
            return fault
        return None

    def gate_of(self, call: Call) -> Gate | None:
        for gate in self._gates:
            waiting = gate.call is None and not gate.reached.is_set()
            if waiting and gate.method == call.method and (not gate.when or gate.when(call)):
                gate.call = call
                return gate
        return None

    def close(self) -> None:
        """Let all calls go on."""
        for gate in self._gates:
            gate.open()
