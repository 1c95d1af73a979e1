"""What a terminal does with keys: Ctrl-C, and showing what is typed."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def on_interrupt(action: Callable[[], None]) -> Iterator[None]:
    """Do something else than usual for Ctrl-C while the block runs."""
    loop = asyncio.get_running_loop()
    usual = signal.getsignal(signal.SIGINT)
    loop.add_signal_handler(signal.SIGINT, action)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, usual)


@contextmanager
def echo_off() -> Iterator[None]:
    """Keep what is typed off the screen while the block runs; the next prompt gets it."""
    if not sys.stdin.isatty():
        yield
        return
    import termios

    usual = termios.tcgetattr(sys.stdin)
    quiet = termios.tcgetattr(sys.stdin)
    quiet[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, usual)
