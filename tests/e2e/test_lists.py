"""Lists: their order, their pages and where those end."""

from __future__ import annotations

from typing import Any

import pytest
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy_server.api import conversations as service

from tests.fakes.provider import Answer
from tests.fleets import ALONE, ANY, BY_ALL
from tests.harness import Caller, Colloquy, eventually
from tests.statuses import refused

MIB = 1 << 20


async def conversations(alice: Caller, **fields: Any) -> list[list[resources.Conversation]]:
    """All pages."""
    pages = []
    token = ""
    while True:
        request = api.ListConversationsRequest(page_token=token, **fields)
        page = await alice.call("ListConversations", request)
        pages.append(list(page.conversations))
        token = page.next_page_token
        if not token:
            return pages


async def messages(
    alice: Caller, conversation_id: str, **fields: Any
) -> list[api.ListMessagesResponse]:
    """All pages."""
    pages: list[api.ListMessagesResponse] = []
    token = ""
    while True:
        request = api.ListMessagesRequest(
            conversation_id=conversation_id, page_token=token, **fields
        )
        pages.append(await alice.call("ListMessages", request))
        token = pages[-1].next_page_token
        if not token:
            return pages


@ALONE
async def test_conversations_are_listed_by_their_latest_activity(
    colloquy: Colloquy, alice: Caller
) -> None:
    made = [await alice.create(title=f"{number}") for number in range(5)]
    assert [len(page) for page in await conversations(alice, page_size=2)] == [2, 2, 1]

    async def order() -> str:
        pages = await conversations(alice, page_size=2)
        return " ".join(conversation.title for page in pages for conversation in page)

    assert await order() == "4 3 2 1 0"
    await alice.send(made[1].id).rest()
    assert await order() == "1 4 3 2 0"
    await alice.send(made[3].id).rest()
    assert await order() == "3 1 4 2 0"
    listed = (await conversations(alice))[0]
    assert listed[0] == await alice.conversation(made[3].id)
    assert listed[0].message_count == 2
    assert listed[0].HasField("last_message_time")
    assert not listed[4].HasField("last_message_time")


@ALONE
async def test_a_page_begins_where_the_one_before_ended_whatever_is_added(
    colloquy: Colloquy, alice: Caller
) -> None:
    for number in range(4):
        await alice.create(title=f"{number}")
    first = await alice.call("ListConversations", api.ListConversationsRequest(page_size=2))
    await alice.create(title="new")
    request = api.ListConversationsRequest(page_size=2, page_token=first.next_page_token)
    second = await alice.call("ListConversations", request)
    assert [c.title for c in (*first.conversations, *second.conversations)] == ["3", "2", "1", "0"]
    assert second.next_page_token == ""


@ALONE
async def test_conversations_are_found_by_who_wrote_in_them(
    colloquy: Colloquy, alice: Caller
) -> None:
    ann = resources.User(external_id="ann", display_name="Ann")
    bea = resources.User(external_id="bea")
    both, anns, nobodys = [await alice.create(title=title) for title in ("both", "ann's", "none")]
    await alice.send(both.id, author=ann).rest()
    await alice.send(both.id, author=bea).rest()
    await alice.send(both.id, author=ann).rest()
    await alice.send(anns.id, author=ann).rest()
    await alice.send(nobodys.id).rest()

    async def wrote(name: str) -> list[str]:
        pages = await conversations(alice, participant_external_id=name, page_size=1)
        return [conversation.title for page in pages for conversation in page]

    assert await wrote("ann") == ["ann's", "both"]
    assert await wrote("bea") == ["both"]
    assert await wrote("nobody") == []
    assert len((await conversations(alice))[0]) == 3
    participants = (await alice.conversation(both.id)).participants
    assert [(user.external_id, user.display_name) for user in participants] == [
        ("ann", "Ann"),
        ("bea", ""),
    ]


@ALONE
async def test_messages_are_listed_oldest_first_page_by_page(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Pages")
    for number in range(13):
        await alice.send(conversation.id, f"{number}").rest()
    whole = (await messages(alice, conversation.id))[0].messages
    said = [message.content for message in whole if message.role == resources.Message.ROLE_USER]
    assert said == [f"{number}" for number in range(13)]
    for size in (1, 7, 16, 26):
        pages = await messages(alice, conversation.id, page_size=size)
        assert [message for page in pages for message in page.messages] == list(whole)
        assert {len(page.messages) for page in pages[:-1]} <= {size}
        assert all(page.resume_token for page in pages)
    assert list((await messages(alice, conversation.id, page_size=26))[0].messages) == list(whole)


@ALONE
async def test_a_page_of_messages_ends_at_three_mib(colloquy: Colloquy, alice: Caller) -> None:
    conversation = await alice.create(title="Large")
    for _ in range(5):
        colloquy.provider.script(Answer(pieces=["x" * MIB]))
        await alice.send(conversation.id, "More").rest()
    pages = await messages(alice, conversation.id)
    sizes = [sum(len(m.content) for m in page.messages) for page in pages]
    assert len(pages) > 1
    assert all(0 < size <= 3 * MIB for size in sizes)
    assert all(page.ByteSize() < 4 * MIB for page in pages), "what clients take by default"
    assert sum(len(page.messages) for page in pages) == 10


@ANY
async def test_all_that_a_page_holds_counts_not_only_its_text(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 50_000
    monkeypatch.setattr(service, "MAX_PAGE_BYTES", limit)
    face = "\N{ROLLING ON THE FLOOR LAUGHING}"  # four bytes a character
    author = resources.User(external_id=face * 255, display_name=face * 255, avatar_url=face * 2048)
    conversation = await alice.create(title="Large")
    for _ in range(8):
        await alice.send(conversation.id, "found", author=author).rest()
    pages = await messages(alice, conversation.id)
    assert len(pages) == 2
    assert all(page.ByteSize() < limit + 1_000 for page in pages)

    async def search() -> tuple[int, int]:
        """The hits of two pages, and the bytes of the larger one."""
        request = api.SearchMessagesRequest(query="found")
        hits = [await alice.call("SearchMessages", request)]
        request.page_token = hits[0].next_page_token
        hits.append(await alice.call("SearchMessages", request))
        return sum(len(page.hits) for page in hits), max(page.ByteSize() for page in hits)

    async def count() -> int:
        return (await search())[0]

    assert await eventually(count, 8) == 8
    assert (await search())[1] < limit + 1_000


@ANY
async def test_a_page_of_conversations_ends_at_three_mib(colloquy: Colloquy, alice: Caller) -> None:
    for number in range(14):
        await alice.create(title=f"{number}", system_prompt="x" * (256 << 10))
    pages = await conversations(alice)
    assert len(pages) == 2
    assert all(sum(c.ByteSize() for c in page) <= 3 * MIB for page in pages)
    titles = [conversation.title for page in pages for conversation in page]
    assert titles == [f"{number}" for number in reversed(range(14))]


@BY_ALL
async def test_the_models_are_listed_with_what_can_be_used(alice: Caller) -> None:
    listed = await alice.call("ListModels", api.ListModelsRequest())
    models = {model.id: model for model in listed.models}
    assert listed.default_model == "test-model"
    assert models["test-model"].available
    assert not models["keyless-model"].available
    assert list(models["test-model"].input_kinds) == [resources.Attachment.KIND_IMAGE]
    assert models["small-model"].context_window == 1000
    assert (await alice.create()).model == "test-model"


@BY_ALL
async def test_an_update_changes_what_its_mask_names_and_nothing_else(alice: Caller) -> None:
    made = await alice.create(title="T", system_prompt="S", external_id="e")

    async def update(paths: list[str], **fields: Any) -> resources.Conversation:
        request = api.UpdateConversationRequest(
            conversation=resources.Conversation(id=made.id, **fields)
        )
        request.update_mask.paths.extend(paths)
        return (await alice.call("UpdateConversation", request)).conversation  # type: ignore[no-any-return]

    changed = await update(["system_prompt"], title="ignored", system_prompt="S2")
    assert (changed.title, changed.system_prompt, changed.model) == ("T", "S2", "test-model")
    changed = await update([], title="T2")
    assert (changed.title, changed.system_prompt) == ("T2", "S2")
    changed = await update(["system_prompt", "title"], title="T3")
    assert (changed.title, changed.system_prompt) == ("T3", "")
    changed = await update(["model"], model="other-model")
    assert changed.model == "other-model"
    changed = await update(["model"])
    assert changed.model == "test-model", "an empty model is the default one"
    assert changed.external_id == "e"
    assert changed.update_time.ToNanoseconds() > made.update_time.ToNanoseconds()
    request = api.UpdateConversationRequest(
        conversation=resources.Conversation(id=made.id, external_id="other", title="X")
    )
    assert (await alice.call("UpdateConversation", request)).conversation.external_id == "e"
    assert (await refused(update(["title"], title="t" * 256))).fields.keys() == {
        "conversation.title"
    }
