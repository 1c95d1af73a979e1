"""The loop of a chat: what is typed, what is answered, and what others say meanwhile."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from colloquy.api.conversation_service_pb2 import ConversationEvent
from colloquy.api.resources_pb2 import Attachment, Conversation, Message, Model
from colloquy.errors import ColloquyError
from colloquy.terminal.attachments import upload_with_progress
from colloquy.terminal.conversation_renderer import describe_file, print_message, title_of
from colloquy.terminal.error_formatter import format_error
from colloquy.terminal.formatting import clean_line
from colloquy.terminal.reply_display import display_reply
from colloquy.terminal.reply_renderers import LiveRenderer
from colloquy.transcript import is_final

if TYPE_CHECKING:
    from rich.console import Console

    from colloquy import AsyncConversationClient, AsyncReply
    from colloquy.terminal.prompt import Prompt

COMMANDS = {
    "/attach": "/attach [FILE]      send a file with what you say next, or show which will be",
    "/model": "/model [NAME]       show the models, or have another one answer from now on",
    "/regenerate": "/regenerate [NAME]  have the last reply made again, by another model if named",
    "/title": "/title [TEXT]       show the title, or give another one",
    "/help": "/help               show this",
    "/quit": "/quit               leave; Ctrl-D does too",
}


class ChatSession:
    """One person's chat. The conversation is made with the first thing said."""

    def __init__(
        self,
        client: AsyncConversationClient,
        console: Console,
        prompt: Prompt,
        model: str = "",
        *,
        is_private: bool = False,
    ) -> None:
        self.conversation: Conversation | None = None
        self._client = client
        self._console = console
        self._prompt = prompt
        self._model = model
        self._visibility = (
            Conversation.VISIBILITY_PARTICIPANTS
            if is_private
            else Conversation.VISIBILITY_UNSPECIFIED
        )
        self._title = ""
        self._files: list[Attachment] = []
        self._last_reply = ""
        # Messages that are on this screen already: our own, and the history.
        self._shown: set[str] = set()
        self._busy = False
        self._deferred: list[Callable[[], None]] = []
        self._watching: asyncio.Task[None] | None = None

    async def welcome(self) -> None:
        """Say who will answer.

        Raises ColloquyError when the server cannot be reached or does not offer the model.
        """
        answer = await self._client.list_models()
        if self._model:
            _check_model(self._model, answer.models)
        model = self._model or answer.default_model
        if not model:
            self._note("no model is available: the server has no provider's key")
        else:
            self._note(f"{clean_line(model)} answers. /help lists the commands, Ctrl-D leaves.")

    async def resume(
        self, conversation: Conversation, resume_token: str, messages: list[Message]
    ) -> None:
        """Go on with a conversation: show the end of it and what becomes of it."""
        if self._model and self._model != conversation.model:
            conversation = await self._client.update_conversation(
                conversation.id, model=self._model
            )
        self._console.print(title_of(conversation), style="bold")
        self._note(clean_line(conversation.id), is_whole=True)
        self._note(f"{clean_line(conversation.model)}\n", is_whole=True)
        if conversation.message_count > len(messages):
            self._note(f"… earlier messages: show {clean_line(conversation.id)}\n", is_whole=True)
        for message in messages:
            if is_final(message):
                self._show(message)
            else:
                self._note(f"{clean_line(message.model)} is writing; it is shown when it is done")
        self._start_watching(conversation, resume_token)

    async def run(self) -> None:
        """Talk until the person leaves."""
        try:
            while True:
                self._print_deferred()
                typed = await self._prompt.ask()
                if typed is None or typed.strip() == "/quit":
                    return
                if typed.strip():
                    await self._handle_input(typed.strip())
        finally:
            if self._watching is not None:
                self._watching.cancel()
                with suppress(asyncio.CancelledError):
                    await self._watching
            if self.conversation is not None:
                id_ = clean_line(self.conversation.id)
                self._note(f"go on with: colloquy chat {id_}", is_whole=True)

    async def _handle_input(self, typed: str) -> None:
        """Do what was typed: a command, or something to say."""
        try:
            if not typed.startswith("/"):
                await self._send(typed)
            elif typed.startswith("//"):
                await self._send(typed[1:])
            else:
                await self._command(typed)
        except ColloquyError as error:
            self._console.print(f"error: {format_error(error, self._client.address)}", style="red")

    async def _command(self, typed: str) -> None:
        name, _, rest = typed.partition(" ")
        commands: dict[str, Callable[[str], Awaitable[None]]] = {
            "/attach": self._attach,
            "/model": self._choose_model,
            "/regenerate": self._regenerate,
            "/title": self._set_title,
            "/help": self._help,
        }
        command = commands.get(name)
        if command is None:
            self._note(
                f"there is no command {clean_line(name)}: /help lists them; to say something that "
                "begins with a slash, begin with two"
            )
            return
        await command(rest.strip())

    async def _send(self, text: str) -> None:
        if self.conversation is None:
            made = await self._client.create_conversation(
                model=self._model, title=self._title, visibility=self._visibility
            )
            found = await self._client.get_conversation(made.id)
            self._start_watching(made, found.resume_token)
        assert self.conversation is not None
        files, self._files = self._files, []
        reply = self._client.send(
            self.conversation.id, text, attachment_ids=[file.id for file in files]
        )
        try:
            await self._follow(reply)
        except ColloquyError:
            if reply.prompt is None:  # it was not taken: the files are for the next try
                self._files = files
            raise

    async def _attach(self, name: str) -> None:
        """Upload a file for what is said next."""
        if name:
            await self.attach(Path(os.path.expanduser(name.strip("'\""))))  # noqa: ASYNC240
        elif not self._files:
            self._note("no file yet: /attach FILE")
        for file in self._files:
            self._note(f"with the next message: {describe_file(file)}")

    async def attach(self, path: Path) -> None:
        """Upload a file for what is said next; one that cannot be read is an error."""
        try:
            self._files.append(await upload_with_progress(self._client, path))
        except OSError as error:
            raise ColloquyError(f"{path}: {error.strerror}") from None

    async def _regenerate(self, model: str) -> None:
        if not self._last_reply:
            self._note("there is no reply yet to make again")
            return
        await self._follow(self._client.regenerate(self._last_reply, model=model))

    async def _follow(self, reply: AsyncReply) -> None:
        assert self.conversation is not None
        self._busy = True
        try:
            finished = await display_reply(
                self._client, self.conversation.id, reply, LiveRenderer(self._console)
            )
            if finished is not None:
                self._shown.add(finished.id)
        except asyncio.CancelledError:
            # Ctrl-C twice; the person wants the prompt back, whatever becomes of the reply.
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            self._note("left; the reply is shown when it is done")
        finally:
            self._busy = False
            if reply.prompt is not None and reply.reply is not None:
                self._shown.add(reply.prompt.id)
                self._last_reply = reply.reply.id
            self._console.print()

    async def _choose_model(self, name: str) -> None:
        if not name:
            answer = await self._client.list_models()
            current = self._model or answer.default_model
            if self.conversation is not None:
                current = self.conversation.model
            for model in answer.models:
                mark = "*" if model.id == current else " "
                remark = "" if model.available else "  (the server has no key for it)"
                self._note(f"{mark} {clean_line(model.id)}{remark}", is_whole=True)
            return
        if self.conversation is not None:
            self.conversation = await self._client.update_conversation(
                self.conversation.id, model=name
            )
        else:
            _check_model(name, (await self._client.list_models()).models)
        self._model = name
        self._note(f"{clean_line(name)} answers from now on")

    async def _set_title(self, title: str) -> None:
        if not title:
            known = title_of(self.conversation) if self.conversation else self._title
            self._note(known or "(no title yet)")
        elif self.conversation is None:
            self._title = title
        else:
            self.conversation = await self._client.update_conversation(
                self.conversation.id, title=title
            )

    async def _help(self, _: str) -> None:
        for line in COMMANDS.values():
            self._note(line)
        self._note("Ctrl-C stops a reply, twice leaves it; Alt-Enter or \\ Enter begins a new line")

    # --- What happens meanwhile ---

    def _start_watching(self, conversation: Conversation, resume_token: str) -> None:
        self.conversation = conversation
        self._watching = asyncio.create_task(self._watch(conversation.id, resume_token))

    async def _watch(self, conversation_id: str, resume_token: str) -> None:
        """Print what others do here, and the title when it is found."""
        try:
            async with self._client.watch(conversation_id, resume_token) as events:
                async for event in events:
                    await self._on_event(event)
        except ColloquyError as error:
            message = f"lost touch: {format_error(error, self._client.address)}"
            await self._print_when_idle(lambda: self._note(message))

    async def _on_event(self, event: ConversationEvent) -> None:
        if event.HasField("conversation"):
            before, self.conversation = self.conversation, event.conversation
            if before is not None and before.title != event.conversation.title:
                title = title_of(event.conversation)
                await self._print_when_idle(lambda: self._note(f"title: {title}\n"))
        elif event.HasField("deleted"):
            await self._print_when_idle(lambda: self._note("the conversation was deleted\n"))
        elif event.HasField("message") and is_final(event.message):
            message = event.message
            await self._print_when_idle(lambda: self._show(message))

    async def _print_when_idle(self, show: Callable[[], None]) -> None:
        """Print something, but not into a reply that is being shown."""
        if self._busy:
            self._deferred.append(show)
        else:
            await self._prompt.print_above(show)

    def _print_deferred(self) -> None:
        deferred, self._deferred = self._deferred, []
        for show in deferred:
            show()

    def _show(self, message: Message) -> None:
        """Print a message that is not on the screen yet."""
        if message.id in self._shown or message.deleted:
            return
        if message.superseded and not message.content:
            return
        self._shown.add(message.id)
        if message.role == Message.ROLE_ASSISTANT and not message.superseded:
            self._last_reply = message.id
        print_message(self._console, message)

    def _note(self, text: str, *, is_whole: bool = False) -> None:
        """Print a remark; what stays whole can be copied from a narrow screen too."""
        self._console.print(text, style="dim", soft_wrap=is_whole)


def _check_model(name: str, models: Iterable[Model]) -> None:
    """Refuse a model that the server does not offer. Raises ColloquyError."""
    available = [model.id for model in models if model.available]
    if name not in available:
        raise ColloquyError(f"{name} is not available; these are: {', '.join(available)}")
