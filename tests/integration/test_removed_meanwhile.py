"""Whoever is removed while a call of theirs waits for the conversation's lock does not get in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from colloquy_server.database.audience import Viewer
from colloquy_server.database.engine import sync_engine
from colloquy_server.database.models import Visibility
from colloquy_server.database.repository import access, changes, conversations, participants
from colloquy_server.database.repository.conversations import NewConversation
from colloquy_server.database.repository.sending import OnBusy, Prompt, send
from colloquy_server.database.repository.users import Author
from colloquy_server.database.transactions import EVERY_ACCOUNT, Session, commit
from colloquy_server.errors import NotFound
from sqlalchemy import Engine, text

from tests.fakes.choices import own_model


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    engine = sync_engine(postgres_url)
    yield engine
    engine.dispose()


def _waits(engine: Engine) -> bool:
    """Whether some transaction waits for a lock."""
    with engine.connect() as connection:
        asked = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        return bool(connection.execute(text(asked)).scalar_one())


def _send(s: Session, conversation_id: str) -> None:
    prompt = Prompt(conversation_id, "Hi", Author(id=s.viewer_id), None, OnBusy.ENQUEUE)
    send(s, s.account_id, prompt, own_model, None, 100)


def _invite_oneself(s: Session, conversation_id: str) -> None:
    participants.add(s, conversation_id, [Author(id=s.viewer_id)], may_rename=False)


@pytest.mark.parametrize("act", [_send, _invite_oneself])
def test_a_call_that_began_before_the_removal_ended_is_refused(
    engine: Engine, act: Callable[[Session, str], None]
) -> None:
    def run(scope: Any, fn: Callable[..., Any], *args: Any) -> Any:
        with engine.connect() as connection:
            return commit(connection, scope, lambda s: fn(s, *args))

    account = run(EVERY_ACCOUNT, access.create_account, "A", None)
    new = NewConversation("", "", None, None, "", visibility=Visibility.PARTICIPANTS)
    conversation_id = run(account.id, conversations.create, account.id, new, lambda: "model").id
    noah = Author(external_id="noah")
    invited = run(
        account.id, lambda s: participants.add(s, conversation_id, [noah], may_rename=True)
    )
    viewer = Viewer(account.id, invited.conversation.participants[0].id)
    with ThreadPoolExecutor(1) as pool, engine.connect() as connection:
        with connection.begin(), Session(connection, account.id) as removing:
            participants.remove(removing, conversation_id, viewer.user_id)
            late = pool.submit(run, viewer, act, conversation_id)
            while not _waits(engine):
                assert not late.done()
        with pytest.raises(NotFound):
            late.result()
    found = run(account.id, changes.conversation, conversation_id)
    assert not found.participants
    assert found.message_count == 0
