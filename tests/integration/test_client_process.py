"""`colloquy` as a process of its own: pipes, signals, terminals."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from colloquy.api.resources_pb2 import Message

from tests.fakes.conversations import Script, say
from tests.fakes.door import KEY
from tests.fakes.serving import ThreadedServing

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "colloquy"]


@pytest.fixture
def server() -> Iterator[ThreadedServing]:
    with ThreadedServing() as running:
        yield running


def environment(server: ThreadedServing | None = None, /, **more: str) -> dict[str, str]:
    """What a process needs, and nothing of whoever runs the tests."""
    found = {"PATH": os.environ["PATH"], "TERM": "xterm"}
    if server is not None:
        found |= {"CONVERSATION_ADDRESS": server.address, "CONVERSATION_API_KEY": KEY}
    return found | more


def ran(
    folder: Path, *command: str, environ: dict[str, str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """A command that was run to its end in a folder."""
    return subprocess.run(
        command,
        env=environ or environment(),
        cwd=folder,
        capture_output=True,
        text=True,
        check=check,
    )


def test_help_does_not_load_what_it_does_not_need(tmp_path: Path) -> None:
    code = "import sys, colloquy.terminal.app; print(*sys.modules)"
    modules = ran(tmp_path, sys.executable, "-c", code).stdout.split()
    assert "colloquy.terminal.app" in modules
    assert not {"grpc", "google.protobuf", "rich", "prompt_toolkit"} & set(modules)


def test_the_library_loads_grpc_when_a_client_is_used(tmp_path: Path) -> None:
    code = (
        "import sys, colloquy; print(colloquy.__version__, 'grpc' in sys.modules);"
        "colloquy.ConversationClient; print('grpc' in sys.modules)"
    )
    said = ran(tmp_path, sys.executable, "-c", code).stdout
    assert said.split() == [version("colloquy"), "False", "True"]


def test_without_an_output_there_is_no_traceback(tmp_path: Path) -> None:
    command = f"{' '.join(COMMAND)} --version >&-"
    done = ran(tmp_path, "sh", "-c", command, check=False)
    assert "Traceback" not in done.stderr


def test_text_comes_through_a_pipe_while_it_is_written(server: ThreadedServing) -> None:
    gate = asyncio.Event()
    server.fake.scripts.append(Script([["half", " whole\n"]], gate=gate, before_gate=1))
    with subprocess.Popen(
        [*COMMAND, "send", "Hi"],
        env=environment(server),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(4) == b"half"

        async def go_on() -> None:
            gate.set()

        server.run(go_on)
        assert process.stdout.read() == b" whole\n"
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_ctrl_c_stops_the_reply(server: ThreadedServing) -> None:
    server.fake.scripts.append(Script([["half", "whole"]], gate=asyncio.Event(), before_gate=1))
    with subprocess.Popen(
        [*COMMAND, "send", "Hi"],
        env=environment(server),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(4) == b"half"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == b"\n"
        assert process.stderr.read() == b"the reply was stopped\n"
        assert process.wait() == 130
    (room,) = server.fake.rooms.values()
    assert list(room.messages.values())[-1].state == Message.STATE_CANCELLED


def test_ctrl_c_ends_a_watch(server: ThreadedServing) -> None:
    subprocess.run([*COMMAND, "send", "Hi"], env=environment(server), check=True)
    (room,) = server.fake.rooms
    with subprocess.Popen(
        [*COMMAND, "watch", room], env=environment(server), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("--- title: ")
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130


def test_whoever_reads_may_stop_reading(server: ThreadedServing) -> None:
    server.fake.scripts.append(say("".join(f"line {n}\n" for n in range(20_000))))
    with subprocess.Popen(
        [*COMMAND, "send", "Hi", "--no-stream"],
        env=environment(server),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"line 0\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == -signal.SIGPIPE


@pytest.mark.parametrize(
    "command",
    [["--help"], ["--version"], ["send", "--help"], ["list"], ["models", "--json"], ["show"]],
)
def test_whoever_reads_nothing_sees_no_error(command: list[str], server: ThreadedServing) -> None:
    subprocess.run([*COMMAND, "send", "Hi"], env=environment(server), check=True)
    if command == ["show"]:
        command = ["show", *server.fake.rooms]
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [*COMMAND, *command],
        env=environment(server),
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (-signal.SIGPIPE, b"")


def test_settings_may_come_from_a_file(server: ThreadedServing, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        f"CONVERSATION_ADDRESS={server.address}\nCONVERSATION_API_KEY=wrong\n", "utf-8"
    )
    result = ran(
        tmp_path, *COMMAND, "models", environ=environment(CONVERSATION_API_KEY=KEY), check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "fake-large" in result.stdout


@pytest.mark.parametrize("command", ["models", "serve"])
def test_a_file_of_settings_that_cannot_be_read_is_told_in_one_line(
    command: str, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_bytes(b"CONVERSATION_API_KEY=\xff\n")
    result = ran(tmp_path, *COMMAND, command, check=False)
    assert result.returncode == 1
    assert result.stderr.endswith(": .env: not UTF-8\n")
    assert result.stderr.count("\n") == 1


def test_the_version_and_the_commands_are_told(tmp_path: Path) -> None:
    assert ran(tmp_path, *COMMAND, "--version").stdout.split() == ["colloquy", version("colloquy")]
    words = {"COMP_WORDS": "colloquy se", "COMP_CWORD": "1"}
    completing = environment(_COLLOQUY_COMPLETE="complete_bash", **words)
    assert ran(tmp_path, *COMMAND, environ=completing).stdout.split() == [
        *("send", "search", "sessions", "serve")
    ]


def test_a_server_that_goes_away_writes_nothing_on_the_screen(server: ThreadedServing) -> None:
    """gRPC's own log would, into the middle of a reply."""
    server.fake.scripts.append(Script([["half", " whole"]], gate=asyncio.Event(), before_gate=1))
    with subprocess.Popen(
        [*COMMAND, "send", "Hi"],
        env=environment(server),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(4) == b"half"

        async def come_back() -> None:
            await server.restart()
            for script_room in server.fake.rooms.values():
                reply = list(script_room.messages.values())[-1]
                reply.state = Message.STATE_COMPLETED
                reply.content = "half whole"
                await server.fake.tell(script_room, message=reply)

        server.run(come_back)
        assert process.stdout.read() == b" whole\n"
        assert process.stderr.read() == b""
        assert process.wait() == 0


# Makes standard input the terminal that Ctrl-C comes from, then becomes another program.
_IN_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A terminal with a chat in it."""

    def __init__(self, server: ThreadedServing, *arguments: str) -> None:
        self.shown = ""
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _IN_A_TERMINAL, *COMMAND, *arguments],
            env=environment(server, COLUMNS="80", LINES="24"),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def wait_for(self, pattern: str) -> None:
        """Read until the screen has shown something; the test's own limit ends it otherwise."""
        while not re.search(pattern, self.shown):
            if not self._read():
                raise AssertionError(f"ended before {pattern!r}: {self.shown}")

    def wait(self) -> int:
        """Wait for the end and return the exit code."""
        while self._read():
            pass
        os.close(self._master)
        return self._process.wait()

    def _read(self) -> bool:
        try:
            data = os.read(self._master, 65536)
        except OSError:  # Linux says so when the other end is closed.
            return False
        # Somebody has to answer where the cursor is: prompt_toolkit asks.
        if b"\x1b[6n" in data:
            self.type("\x1b[1;1R")
        self.shown += data.decode(errors="replace")
        return bool(data)


def test_a_chat_on_a_real_terminal(server: ThreadedServing) -> None:
    gate = asyncio.Event()
    server.fake.scripts.append(say("# A title\n\n", "Some *words*.\n"))
    server.fake.scripts.append(Script([["half", " whole"]], gate=gate, before_gate=1))
    terminal = Terminal(server, "chat")
    terminal.wait_for("fake-large answers")
    terminal.type("Hello\r")
    terminal.wait_for("A title")
    terminal.wait_for("words")
    terminal.wait_for("title: A made-up title")
    terminal.type("More\r")
    terminal.wait_for("half")
    terminal.type("\x03")
    terminal.wait_for(r"\[stopped\]")
    terminal.type("\x04")
    assert terminal.wait() == 0
    assert "go on with: colloquy chat" in terminal.shown
    assert "*words*" not in terminal.shown
    assert "Traceback" not in terminal.shown


def test_send_renders_on_a_terminal(server: ThreadedServing) -> None:
    server.fake.scripts.append(say("Some *words*", " \x1b]0;pwned\x07here.\n"))
    terminal = Terminal(server, "send", "Hello")
    assert terminal.wait() == 0
    assert re.search(r"Some \x1b\[3mwords\x1b\[0m ]0;pwnedhere\.", terminal.shown)
    assert "\x07" not in terminal.shown
