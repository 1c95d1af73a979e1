"""The local model's process: llama.cpp's OpenAI-compatible server on a free loopback port.

Run by `local_model` with the arguments MODEL_FILE CONTEXT_TOKENS SLOTS, and as the first line of
standard input the key that callers need.
Writes its address as one line to standard output when it listens, and all else to standard error.
Ends when standard input does, and so with its parent, however that ends.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from colloquy_server.confinement import close_inherited, confine_local_model


def main() -> None:
    """Serve until standard input ends."""
    close_inherited()
    _ignore_signals()
    key = sys.stdin.buffer.readline().decode().strip()
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # llama.cpp prints where it likes
    threading.Thread(target=_end_with_parent, daemon=True).start()

    path, context_tokens, slots = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    xllamacpp: Any = importlib.import_module("xllamacpp")  # it has no type hints
    params = _params(xllamacpp, path, context_tokens, slots)
    params.api_keys = [key]
    confine_local_model(Path(path))  # before llama.cpp starts its threads, which inherit it
    server = xllamacpp.Server(params)
    _ignore_signals()  # again: llama.cpp has set handlers of its own
    report.write(f"{server.listening_address}\n")
    report.close()
    threading.Event().wait()


def _ignore_signals() -> None:
    """The parent decides: it keeps live replies for a while after the same Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _params(xllamacpp: Any, path: str, context_tokens: int, slots: int) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.n_parallel = slots
    params.n_ctx = context_tokens * slots  # llama.cpp divides it by the slots
    # Its threads wait for each other by spinning: one that gets no processor, because the server or
    # a client has it, costs all of them theirs. More than 8 only wait for memory.
    params.cpuparams.n_threads = max(1, min((os.cpu_count() or 1) // 2, 8))
    params.cache_ram_mib = 0  # llama.cpp would keep up to 8 GiB of old prompts
    params.ui = False
    params.endpoint_slots = False  # it shows other conversations' prompts
    params.cors_origins = ""  # no web page has business here
    return params


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
