"""The commands, against a server in memory."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from colloquy import ConversationClient
from colloquy.api import admin_service_pb2 as admin_pb
from colloquy.api.conversation_service_pb2 import ConversationEvent
from colloquy.api.resources_pb2 import Conversation, Error, Message, Rating
from colloquy.terminal.watch_renderer import WatchRenderer
from typer.testing import Result

from tests.commands import invoke
from tests.fakes.conversations import Script, say
from tests.fakes.door import ADMIN_KEY, KEY, status
from tests.fakes.serving import ThreadedServing

MIAS_ID = "01a21bd9-5f1d-7079-a288-1b1542404177"

Run = Callable[..., Result]


@pytest.fixture
def server() -> Iterator[ThreadedServing]:
    with ThreadedServing() as running:
        yield running


@pytest.fixture
def run(server: ThreadedServing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command against the server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVERSATION_ADDRESS", server.address)
    monkeypatch.setenv("CONVERSATION_API_KEY", KEY)
    monkeypatch.setenv("ADMIN_API_KEY", ADMIN_KEY)

    def run(*arguments: str, input: str | bytes | None = None) -> Result:  # noqa: A002
        return invoke(arguments, input=input)

    return run


def done(result: Result) -> str:
    """The output of a command that succeeded without a word beside it."""
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def failed(result: Result, code: int = 1) -> str:
    """The one line that a command said when it failed."""
    assert result.exit_code == code
    assert "Traceback" not in result.output
    assert result.stderr.count("\n") == 1
    return result.stderr


# --- send ---


def test_a_question_is_answered_in_plain_text(run: Run) -> None:
    assert done(run("send", "Hello *you*")) == "You said: Hello *you*\n"


@pytest.mark.parametrize("arguments", [["send"], ["send", "-"]])
def test_the_question_may_come_from_standard_input(run: Run, arguments: list[str]) -> None:
    assert done(run(*arguments, input="from a pipe\nof two lines\n")) == (
        "You said: from a pipe\nof two lines\n"
    )


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "is empty"),
        ("\n", "is empty"),
        (b"\xff\xfe", "is not UTF-8"),
        ("one\0two", "a null character"),
    ],
)
def test_what_cannot_be_said_is_wrong_usage(
    run: Run, server: ThreadedServing, text: str | bytes, wrong: str
) -> None:
    assert wrong in failed(run("send", "-", input=text), 2)
    assert server.fake.rooms == {}


def test_an_argument_that_is_no_text_is_wrong_usage(run: Run, server: ThreadedServing) -> None:
    assert "is not UTF-8" in failed(run("send", "caf\udce9"), 2)
    assert server.fake.rooms == {}


def test_a_question_that_is_refused_leaves_no_conversation_behind(
    run: Run, server: ThreadedServing
) -> None:
    done(run("send", "one"))
    (first,) = server.fake.rooms
    too_long = status(grpc.StatusCode.INVALID_ARGUMENT, "MESSAGE_TOO_LONG", "it is too long")
    server.fake.breaks.extend([(0, too_long)] * 2)
    assert failed(run("send", "two")) == "error: it is too long\n"
    assert failed(run("send", "two", "-c", first)) == "error: it is too long\n"
    assert [room.deleted for room in server.fake.rooms.values()] == [False, True]


def test_a_conversation_goes_on(run: Run, server: ThreadedServing) -> None:
    done(run("send", "one"))
    (room,) = server.fake.rooms.values()
    done(run("send", "two", "-c", room.conversation.id))
    done(run("send", "three", "-c", room.conversation.id[-8:]))
    assert [m.content for m in room.messages.values() if m.role == Message.ROLE_USER] == [
        "one",
        "two",
        "three",
    ]


def test_the_conversation_that_was_used_last_goes_on(run: Run, server: ThreadedServing) -> None:
    begun = run("send", "one", "--last")
    assert (begun.exit_code, begun.stdout) == (0, "You said: one\n")
    assert "begins the first one" in begun.stderr
    done(run("send", "another"))
    latest = done(run("list", "-n", "1")).split("\t")[0]
    done(run("send", "two", "--last"))
    assert {room.conversation.id: len(room.messages) for room in server.fake.rooms.values()} == {
        room: 4 if room == latest else 2 for room in server.fake.rooms
    }
    assert "leave it or --conversation out" in failed(run("send", "x", "--last", "-c", "1234"), 2)
    assert "new conversation" in failed(run("send", "x", "--last", "--model", "fake-small"), 2)


def test_a_new_conversation_takes_a_system_prompt(run: Run, server: ThreadedServing) -> None:
    done(run("send", "one", "--system", "Be brief"))
    (room,) = server.fake.rooms.values()
    assert room.conversation.system_prompt == "Be brief"
    assert "new conversation" in failed(run("send", "x", "-c", "12345678", "-s", "y"), 2)


def test_a_new_conversation_takes_a_model(run: Run, server: ThreadedServing) -> None:
    done(run("send", "one", "--model", "fake-small"))
    (room,) = server.fake.rooms.values()
    assert room.conversation.model == "fake-small"
    assert "new conversation" in failed(run("send", "x", "-c", "12345678", "-m", "y"), 2)
    assert "there is no model gpt-99" in failed(run("send", "one", "--model", "gpt-99"))


@pytest.mark.parametrize("options", [(), ("--no-stream",), ("--json",)])
def test_a_reply_that_was_cut_off_says_so_beside_its_text(
    run: Run, server: ThreadedServing, options: tuple[str, ...]
) -> None:
    server.fake.scripts.append(Script([["half"]], finish_reason="length"))
    result = run("send", "Hi", *options)
    assert (result.exit_code, "cut off" in result.stdout) == (0, False)
    assert result.stderr == "(cut off: the model reached its output limit)\n"


def test_json_is_the_finished_reply(run: Run, server: ThreadedServing) -> None:
    found = json.loads(done(run("send", "Hi\x9b", "--json")))
    assert found["content"] == "You said: Hi\x9b"
    assert found["state"] == "STATE_COMPLETED"
    assert found["conversation_id"] in server.fake.rooms


def test_a_reply_that_begins_again(run: Run, server: ThreadedServing) -> None:
    for _ in range(3):
        server.fake.scripts.append(Script([["half"], ["who", "le"]]))
    result = run("send", "Hi")
    assert (result.exit_code, result.stdout) == (0, "half\nwhole\n")
    assert "begins again" in result.stderr
    assert done(run("send", "Hi", "--no-stream")) == "whole\n"
    assert json.loads(done(run("send", "Hi", "--json")))["content"] == "whole"


def test_a_failed_reply_is_told_by_the_exit_code(run: Run, server: ThreadedServing) -> None:
    error = Error(message="the provider is \x1b[31mdown")
    for _ in range(2):
        server.fake.scripts.append(Script([["half"]], Message.STATE_FAILED, error))
    result = run("send", "Hi")
    assert result.stdout == "half\n"
    assert failed(result) == "error: the reply failed: the provider is [31mdown\n"
    result = run("send", "Hi", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["message"] == "the provider is \x1b[31mdown"


def test_a_reply_that_somebody_stopped(run: Run, server: ThreadedServing) -> None:
    server.fake.scripts.append(Script([["half"]], Message.STATE_CANCELLED))
    assert failed(run("send", "Hi"), 130) == "the reply was stopped\n"


def test_what_a_model_says_is_not_obeyed(run: Run, server: ThreadedServing) -> None:
    server.fake.scripts.append(say("\x1b]0;", "pwned\x07", "\x9b31m", "text\r", "\nend"))
    assert done(run("send", "Hi")) == "]0;pwned31mtext\n\nend\n"


def test_a_stream_that_breaks_is_not_noticed(run: Run, server: ThreadedServing) -> None:
    server.fake.breaks.extend([(2, status(grpc.StatusCode.UNAVAILABLE))] * 2)
    assert done(run("send", "Hi")) == "You said: Hi\n"


def test_a_file_goes_along(run: Run, server: ThreadedServing, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words", "utf-8")
    done(run("send", "Read this", "--attach", "a.txt"))
    (room,) = server.fake.rooms.values()
    first = next(iter(room.messages.values()))
    assert [file.filename for file in first.attachments] == ["a.txt"]
    assert failed(run("send", "Read this", "--attach", "b.txt")) == (
        "error: b.txt: No such file or directory\n"
    )
    fields = {"chunk": "the file is empty"}
    empty = status(
        grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "chunk: the file is empty", fields=fields
    )
    server.fake.files.failures.extend([empty] * 2)
    assert failed(run("send", "Read this", "--attach", "a.txt")) == (
        "error: a.txt: the file is empty\n"
    )
    assert failed(run("upload", "a.txt")) == "error: a.txt: the file is empty\n"


# --- looking ---


@pytest.fixture
def talk(run: Run, server: ThreadedServing) -> str:
    """The id of a conversation with one exchange in it."""
    server.fake.title = "About\x1b[1m tabs\tand\nlines"
    done(run("send", "Hi <b>"))
    (room,) = server.fake.rooms.values()
    return room.conversation.id


def test_the_list_can_be_cut(run: Run, talk: str) -> None:
    (line,) = done(run("list")).splitlines()
    id_, _, _, model, title = line.split("\t")
    assert (id_, model, title) == (talk, "fake-large", "About[1m tabs and lines")
    (line,) = done(run("list", "--json")).splitlines()
    assert json.loads(line)["id"] == talk
    done(run("send", "more"))
    assert len(done(run("list", "-n", "1")).splitlines()) == 1


def test_what_is_archived_is_left_out_of_the_list(run: Run, server: ThreadedServing) -> None:
    for text in ("one", "two"):
        done(run("send", text))
    first, second = (room.conversation for room in server.fake.rooms.values())
    second.unread_count = 1

    def ids(*arguments: str) -> list[str]:
        return [line.split("\t")[0] for line in done(run("list", *arguments)).splitlines()]

    run("archive", first.id)
    assert (ids(), ids("--archived")) == ([second.id], [first.id])
    run("archive", first.id, "--undo")
    assert ids() == [second.id, first.id]
    assert ids("--pinned") == []
    run("pin", first.id)
    assert ids("--pinned") == [first.id]
    assert ids("--unread") == [second.id]


def test_a_conversation_is_shown(run: Run, talk: str) -> None:
    text = done(run("show", talk[:8]))
    assert text.startswith("# About[1m tabs and lines\n")
    assert "## You · " in text
    assert "## fake-large · " in text
    assert "You said: Hi <b>" in text
    found = json.loads(done(run("show", talk, "--json")))
    assert [m["content"] for m in found["messages"]] == ["Hi <b>", "You said: Hi <b>"]


def test_people_are_invited_and_removed_and_it_is_shown_who_sees_it(run: Run, talk: str) -> None:
    assert "seen by the account, made by Me, begun" in done(run("show", talk))
    done(run("visibility", talk[:8], "participants"))
    done(run("invite", talk[:8], "mia", "noah"))
    told = "seen by its participants, made by Me, with"
    assert f"{told} mia, noah, begun" in done(run("show", talk))
    done(run("remove", talk[:8], "mia"))
    assert f"{told} noah, begun" in done(run("show", talk))
    assert "takes no part" in failed(run("remove", talk, "mia"), 2)


def test_a_private_conversation_is_begun(run: Run) -> None:
    done(run("send", "--private", "Between us"))
    made = json.loads(done(run("list", "--json")).splitlines()[0])
    assert made["visibility"] == "VISIBILITY_PARTICIPANTS"
    assert "--private" in failed(run("send", "--private", "--last", "Hi"), 2)


def test_a_conversation_is_written_down(run: Run, talk: str, tmp_path: Path) -> None:
    assert done(run("export", talk)) == done(run("show", talk))
    assert done(run("export", talk, "-o", "talk.md")) == ""
    assert (tmp_path / "talk.md").read_text("utf-8") == done(run("show", talk))
    done(run("export", talk, "--format", "json", "-o", "talk.json"))
    found = json.loads((tmp_path / "talk.json").read_text("utf-8"))
    assert found["conversation"]["id"] == talk
    assert "No such file" in failed(run("export", talk, "-o", "nowhere/talk.md"))
    assert "'yaml'" in run("export", talk, "--format", "yaml").stderr


def test_a_conversation_is_written_down_with_its_files(
    run: Run, server: ThreadedServing, tmp_path: Path
) -> None:
    for folder, words in (("one", "first"), ("two", "second")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a b.txt").write_text(words)
    done(run("send", "Read", "-a", "one/a b.txt", "-a", "two/a b.txt"))
    (room,) = server.fake.rooms.values()
    talk = room.conversation.id
    text = done(run("export", talk, "--files", "saved/here"))
    assert (tmp_path / "saved/here/a b.txt").read_text() == "first"
    assert (tmp_path / "saved/here/a b-2.txt").read_text() == "second"
    assert "[file: a b.txt (text/plain, 5 B)](saved/here/a%20b.txt)" in text
    assert "(saved/here/a%20b-2.txt)" in text
    found = json.loads(done(run("export", talk, "-f", "json", "--files", "saved/again")))
    assert [file["path"] for file in found["messages"][0]["attachments"]] == [
        "saved/again/a b.txt",
        "saved/again/a b-2.txt",
    ]
    assert "a b.txt (text/plain, 5 B)" in done(run("show", talk))


def test_a_file_is_saved_in_the_folder_whatever_its_name(
    run: Run, server: ThreadedServing, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("words")
    done(run("send", "Read", "-a", "a.txt"))
    (room,) = server.fake.rooms.values()
    (file, _), *_ = server.fake.files.files.values()
    for name in ("../../up.txt", "..", "/etc/x"):
        file.filename = name
        for message in room.messages.values():
            for attachment in message.attachments:
                attachment.filename = name
        done(run("export", room.conversation.id, "--files", "saved"))
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["file", "up.txt", "x"]


def test_messages_are_found(run: Run, server: ThreadedServing, talk: str) -> None:
    prompt, reply = server.fake.rooms[talk].messages
    lines = [line.split("\t") for line in done(run("search", "Hi")).splitlines()]
    assert sorted([line[0], line[1], *line[3:]] for line in lines) == sorted(
        [[prompt, talk, "You", "«Hi»"], [reply, talk, "fake-large", "«Hi»"]]
    )
    assert len(done(run("search", "Hi", "-c", talk[:8], "-n", "1")).splitlines()) == 1
    assert json.loads(done(run("search", "You said", "--json")))["message"]["id"] == reply
    assert done(run("search", "nowhere")) == ""


def test_a_reply_is_rated(run: Run, server: ThreadedServing, talk: str) -> None:
    _, first = server.fake.rooms[talk].messages
    done(run("send", "more", "-c", talk))
    *_, second = server.fake.rooms[talk].messages
    done(run("rate", "good", first, "--comment", "just\nright"))
    done(run("rate", "bad", talk))
    shown = done(run("show", talk))
    assert "*[rated good: just right]*" in shown
    assert "*[rated bad]*" in shown
    done(run("rate", "none", "--last"))
    assert "*[rated bad]*" not in done(run("show", talk))
    found = json.loads(done(run("export", talk, "-f", "json")))["messages"]
    assert {m["id"]: m["rating_comment"] for m in found if m["rating_comment"]} == {
        first: "just\nright"
    }
    assert "say --last" in failed(run("rate", "good"), 2)
    assert "has no comment" in failed(run("rate", "none", second, "--comment", "x"), 2)
    empty = run("send", "Hi", "--system", "x")
    assert empty.exit_code == 0
    with ConversationClient(server.address, KEY) as client:
        nothing = client.create_conversation().id
    assert "there is no reply" in failed(run("rate", "good", nothing), 2)


def test_a_conversation_is_deleted_when_that_is_meant(
    run: Run, server: ThreadedServing, talk: str
) -> None:
    assert "--yes" in failed(run("delete", talk), 2)
    assert not server.fake.rooms[talk].deleted
    done(run("delete", talk[-8:], "--yes"))
    assert server.fake.rooms[talk].deleted
    assert failed(run("delete", talk, "--yes")) == "error: there is no such conversation\n"


def test_a_message_is_deleted_when_that_is_meant(
    run: Run, server: ThreadedServing, talk: str
) -> None:
    messages = server.fake.rooms[talk].messages
    prompt = next(iter(messages))
    assert "is not the id of a message" in failed(run("delete-message", prompt[-8:], "--yes"), 2)
    assert "--yes" in failed(run("delete-message", prompt), 2)
    assert prompt in messages
    done(run("delete-message", prompt, "--yes"))
    assert prompt not in messages
    assert failed(run("delete-message", prompt, "--yes")) == "error: there is no such message\n"


def test_a_conversation_that_is_not_there(run: Run) -> None:
    assert "no conversation whose id" in failed(run("show", "abcdef12"), 2)
    missing = "01a20472-4ff9-70da-9007-29f2915b7c2a"
    for command in ("show", "export", "watch"):
        assert failed(run(command, missing)) == "error: there is no such conversation\n"


def test_models_are_listed(run: Run) -> None:
    lines = [line.split("\t") for line in done(run("models")).splitlines()]
    assert [line[:3] for line in lines] == [
        ["fake-large", "available", "default"],
        ["fake-small", "available", ""],
        ["no-key", "no key", ""],
    ]
    assert [line[7:] for line in lines] == [["1024", "image,document"], ["1024", ""], ["0", ""]]
    first = json.loads(done(run("models", "--json")).splitlines()[0])
    assert first["id"] == "fake-large"


def test_a_watcher_is_told_until_the_end(run: Run, server: ThreadedServing) -> None:
    with ConversationClient(server.address, KEY) as client:
        conversation = client.create_conversation()
        gate = asyncio.Event()
        server.fake.scripts.append(Script([["half"], ["who", "le"]], gate=gate, before_gate=0))
        server.fake.title = "A title"
        sending = client.send(conversation.id, "Hi")
        next(sending)

        async def go_on() -> None:
            gate.set()
            room = server.fake.rooms[conversation.id]
            async with room.changed:
                await room.changed.wait_for(lambda: bool(room.conversation.title))
            await server.fake.delete(room)

        # Once the watcher has been told how things stand, they go on.
        server.fake.on_watch = go_on
        text = done(run("watch", conversation.id))
    assert text == (
        "--- fake-large\n"
        "half\n--- fake-large\nwhole\n"
        "--- title: A title\n"
        "--- the conversation was deleted\n"
    )


def test_what_comes_between_ends_no_reply() -> None:
    """A title that comes while a reply is written, and what becomes of it when it is finished."""
    written = Message(id="r", role=Message.ROLE_ASSISTANT, model="m", state=Message.STATE_QUEUED)
    renderer = WatchRenderer(paper := io.StringIO())

    def tell(**what: Any) -> None:
        renderer.render(ConversationEvent(**what))

    def say(text: str, offset: int) -> None:
        tell(delta=ConversationEvent.Delta(message_id="r", attempt=1, offset=offset, text=text))
        written.content += text

    tell(message=written)
    written.state, written.attempt = Message.STATE_GENERATING, 1
    tell(message=written)
    say("half ", 0)
    tell(conversation=Conversation(title="T"))
    say("whole", 5)
    tell(conversation=Conversation(title="Other"))
    written.state, written.finish_reason = Message.STATE_COMPLETED, "length"
    tell(message=written)
    written.rating = Rating.RATING_GOOD
    tell(message=written)
    for _ in range(2):
        written.superseded = True
        tell(message=written)
    assert paper.getvalue() == (
        "--- m\nhalf \n--- title: T\n--- title: Other\n"
        "--- m, continued\nwhole\n[cut off: the model reached its output limit]\n"
        "--- m: rated good\n"
        "--- m: a later reply took its place\n"
    )


def test_a_file_is_uploaded(run: Run, server: ThreadedServing, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words", "utf-8")
    id_ = done(run("upload", "a.txt")).strip()
    assert server.fake.files.files[id_][1] == b"words"
    assert json.loads(done(run("upload", "a.txt", "--json")))["byte_size"] == "5"
    assert run("upload", "b.txt").exit_code == 2


def test_a_server_that_takes_no_files_says_so(
    run: Run, server: ThreadedServing, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("words", "utf-8")
    server.fake.files.failures.append(status(grpc.StatusCode.UNIMPLEMENTED, message="not built"))
    assert "cannot do this yet" in failed(run("upload", "a.txt"))


# --- accounts and keys ---


def test_accounts_and_keys_are_kept(run: Run, server: ThreadedServing) -> None:
    account = done(run("admin", "create-account", "Acme", "--external-id", "acme")).strip()
    (line,) = done(run("admin", "list-accounts")).splitlines()
    assert line.split("\t") == [account, "", "acme", "Acme"]
    made = run("admin", "create-key", account[-8:], "bot", "--days", "2")
    assert (made.exit_code, made.stdout) == (0, "clq_secret\n")
    assert "shown this once" in made.stderr
    done(run("admin", "update-account", account, "--visibility", "participants"))
    made_account = json.loads(done(run("admin", "list-accounts", "--json")).splitlines()[0])
    assert made_account["default_visibility"] == "VISIBILITY_PARTICIPANTS"
    admin = ["--role", "admin", "--user", "U0"]
    key = json.loads(done(run("admin", "create-key", account, "root", *admin, "--json")))
    assert key["api_key"]["user"]["external_id"] == "U0"
    member = ["--role", "member", "--user", "U1", "--user-name", "Ada"]
    key = json.loads(done(run("admin", "create-key", account, "ada", *member, "--json")))
    assert key["api_key"]["user"]["display_name"] == "Ada"
    done(run("admin", "revoke-key", key["api_key"]["id"]))
    service, root, person = (
        line.split("\t") for line in done(run("admin", "list-keys", account)).splitlines()
    )
    assert (service[1], service[2][:5], service[4]) == ("service", "until", "bot")
    assert (root[1], root[3], root[4]) == ("admin", "U0", "root")
    assert (person[1], person[2][:7], person[3], person[4]) == ("member", "revoked", "U1", "ada")
    assert (service[5], person[5][:5]) == ("not used", "used ")
    done(run("admin", "delete-account", account, "--yes"))
    assert server.accounts.accounts == {}
    assert "no such account" in failed(run("admin", "delete-account", account, "-y"))


def test_accounts_and_keys_have_quotas(run: Run, server: ThreadedServing) -> None:
    limits = ["--max-file-bytes", "5", "--max-conversations", "6", "--max-queued-replies", "7"]
    wanted = admin_pb.Quotas(file_bytes=5, conversations=6, queued_replies=7)
    account = done(run("admin", "create-account", "Acme", *limits)).strip()
    assert server.accounts.accounts[account].quotas == wanted
    key = json.loads(done(run("admin", "create-key", account, "bot", *limits, "--json")))
    assert server.accounts.keys[key["api_key"]["id"]].quotas == wanted
    done(run("admin", "update-account", account[-8:], "--max-conversations", "9"))
    wanted.conversations = 9
    assert server.accounts.accounts[account].quotas == wanted
    done(run("admin", "update-account", account, "--visibility", "participants"))
    assert server.accounts.accounts[account].quotas == wanted
    assert "name what to change" in failed(run("admin", "update-account", account), 2)
    assert server.accounts.accounts[account].quotas == wanted
    done(run("admin", "update-account", account, "--max-file-bytes", "0"))
    wanted.file_bytes = 0
    assert server.accounts.accounts[account].quotas == wanted
    huge = ["--max-queued-replies", str(1 << 31)]
    assert "larger" in failed(run("admin", "update-account", account, *huge), 2)


def test_a_person_is_exported_into_a_file_of_ones_own(
    run: Run, server: ThreadedServing, tmp_path: Path
) -> None:
    server.accounts.breaks.append((2, status(grpc.StatusCode.UNAVAILABLE)))
    done(run("admin", "export-user", MIAS_ID, "-o", "mia.zip"))
    archive = tmp_path / "mia.zip"
    assert archive.read_bytes() == f"PKof {MIAS_ID}".encode()
    assert archive.stat().st_mode & 0o777 == 0o600
    server.accounts.breaks.append((2, status(grpc.StatusCode.NOT_FOUND, "USER_NOT_FOUND")))
    failed(run("admin", "export-user", MIAS_ID, "-o", "noah.zip"))
    assert "not the id of a user" in failed(run("admin", "export-user", "noah", "-o", "x.zip"), 2)
    assert [path.name for path in tmp_path.glob("*.zip")] == ["mia.zip"]
    assert not list(tmp_path.glob(".download-*"))


def test_who_did_what_is_listed(run: Run, server: ThreadedServing) -> None:
    account = done(run("admin", "create-account", "Acme")).strip()
    of_account = admin_pb.AuditEvent(
        action="DeleteConversation",
        target_id="c",
        actor="member",
        user_id="u",
        api_key_id="k",
        address="10.0.0.7",
        account_id=account,
    )
    refused = admin_pb.AuditEvent(action="SendMessage", refusal="UNAUTHENTICATED")
    server.accounts.events += [of_account, *[refused] * 60]
    first, *others = done(run("admin", "audit")).splitlines()
    assert first.split("\t") == [
        *("", "DeleteConversation", "c", "member", "u", "k", "10.0.0.7", account, "")
    ]
    assert len(others) == 49
    assert len(done(run("admin", "audit", "-n", "0")).splitlines()) == 61
    (line,) = done(run("admin", "audit", "--account", account[-8:], "--json")).splitlines()
    assert json.loads(line)["api_key_id"] == "k"


@pytest.mark.parametrize("arguments", [["--role", "member"], ["--role", "admin"], ["--user", "U1"]])
def test_a_member_has_a_user_and_a_service_has_none(run: Run, arguments: list[str]) -> None:
    account = "01a20472-4ff9-70da-9007-29f2915b7c2a"
    assert "--user" in failed(run("admin", "create-key", account, "k", *arguments), 2)


def test_nothing_is_deleted_without_a_word(
    run: Run, server: ThreadedServing, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = done(run("admin", "create-account", "Acme")).strip()
    assert "--yes" in failed(run("admin", "delete-account", account), 2)
    assert account in server.accounts.accounts
    asked = []
    monkeypatch.setattr(
        "colloquy.terminal.commands.admin.confirm", lambda question, yes: asked.append(question)
    )
    done(run("admin", "delete-account", account))
    assert asked == [f"Delete the account Acme ({account}) with all its conversations?"]


def test_a_user_is_deleted_when_that_is_meant(run: Run, server: ThreadedServing) -> None:
    account = done(run("admin", "create-account", "Acme")).strip()
    assert run("admin", "create-key", account, "k", "--role", "member", "--user", "bob").stdout
    (key,) = server.accounts.keys.values()
    assert "not the id of a user" in failed(run("admin", "delete-user", "bob", "--yes"), 2)
    key.user.id = account  # as good an id as any
    assert "--yes" in failed(run("admin", "delete-user", account), 2)
    assert server.accounts.keys
    done(run("admin", "delete-user", account, "--yes"))
    assert not server.accounts.keys


def test_the_platform_key_is_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ADMIN_API_KEY")
    assert "set ADMIN_API_KEY" in failed(run("admin", "list-accounts"))


# --- what can be wrong ---


def test_a_server_that_is_not_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("colloquy.terminal.connection._CONNECT_TIMEOUT", 0.0)
    said = failed(run("--address", "127.0.0.1:1", "list"))
    assert said.startswith(
        "error: no server answers at 127.0.0.1:1: start one with `colloquy serve --dev`"
    )


def test_a_server_that_speaks_no_tls(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("colloquy.terminal.connection._CONNECT_TIMEOUT", 0.0)
    said = failed(run("--tls", "list"))
    assert "does not speak TLS: leave --tls" in said
    assert "colloquy serve --dev" not in said


def test_a_key_that_is_not_known(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVERSATION_API_KEY", "wrong")
    said = failed(run("send", "Hi"))
    assert "does not accept the key" in said
    assert "wrong" not in said


def test_no_key(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONVERSATION_API_KEY")
    assert "colloquy serve --dev" in failed(run("list"))


def test_an_address_that_is_none(run: Run) -> None:
    assert "is not an address" in failed(run("--address", "https://", "list"))


def test_certificates_that_are_not_there(run: Run) -> None:
    assert "cannot read ca.pem" in failed(run("--ca-file", "ca.pem", "list"))


def test_chat_needs_a_terminal(run: Run) -> None:
    assert "needs a terminal" in failed(run("chat"), 2)
    assert "--last" in failed(run("chat", "--last", "12345678"), 2)


def test_help_is_there_for_every_command(run: Run) -> None:
    names = [line.split()[0] for line in run("--help").stdout.split("Commands:\n")[1].splitlines()]
    assert names == [
        *("chat", "send", "list", "show", "archive", "pin", "watch", "search", "rate", "delete"),
        "delete-message",
        *("invite", "remove", "visibility", "models", "usage", "upload", "export", "login"),
        *("logout", "link", "sessions", "admin"),
    ]
    for name in names:
        assert run(name, "--help").exit_code == 0


def test_lines_of_a_watch_break_between_words() -> None:
    message = Message(
        id="r", role=Message.ROLE_ASSISTANT, model="m", state=Message.STATE_GENERATING, attempt=1
    )
    text = (
        "Sentences of several words, a-very-long-word-for-so-few-cells\n  and 苹果苹果苹果苹果 end"
    )
    renderer = WatchRenderer(paper := io.StringIO(), lambda: 20)
    renderer.render(ConversationEvent(message=message))
    for at in range(0, len(text), 3):
        delta = ConversationEvent.Delta(
            message_id="r", attempt=1, offset=at, text=text[at : at + 3]
        )
        renderer.render(ConversationEvent(delta=delta))
    message.state, message.content = Message.STATE_COMPLETED, text
    renderer.render(ConversationEvent(message=message))
    heading, *lines = paper.getvalue().splitlines()
    assert heading == "--- m"
    assert lines == [
        "Sentences of several",
        "words,",
        "a-very-long-word-for-so-few-cells",
        "  and 苹果苹果苹果苹",  # these may break anywhere
        "果 end",
    ]


def test_what_comes_between_breaks_no_word() -> None:
    renderer = WatchRenderer(paper := io.StringIO())
    message = Message(
        id="r", role=Message.ROLE_ASSISTANT, model="m", state=Message.STATE_GENERATING, attempt=1
    )
    prompt = Message(id="u", role=Message.ROLE_USER, content="Hi", state=Message.STATE_COMPLETED)
    prompt.author.display_name = "Ann"
    renderer.render(ConversationEvent(message=message))
    delta = ConversationEvent.Delta(message_id="r", attempt=1, text="some wor")
    renderer.render(ConversationEvent(delta=delta))
    renderer.render(ConversationEvent(message=prompt))
    queued = Message(id="q", role=Message.ROLE_ASSISTANT, model="m", state=Message.STATE_QUEUED)
    renderer.render(ConversationEvent(message=queued))
    renderer.render(
        ConversationEvent(
            delta=ConversationEvent.Delta(message_id="r", attempt=1, offset=8, text="ds ")
        )
    )
    assert paper.getvalue() == "--- m\nsome \n--- Ann\nHi\n--- m, continued\nwords "
