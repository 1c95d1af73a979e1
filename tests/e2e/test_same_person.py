"""The same person by several ways: who comes under another name with the same e-mail address."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy.api import session_service_pb2 as sessions_api
from colloquy.api.session_service_pb2_grpc import SessionServiceStub
from colloquy_server.database.models import User, UserAlias
from colloquy_server.database.transactions import EVERY_ACCOUNT
from sqlalchemy import select

from tests.fakes.identity_provider import AUDIENCE, IdentityProviderDouble
from tests.fleets import ANY
from tests.harness import Caller, Colloquy
from tests.statuses import refused

ADDRESS = "mia@acme.example"
SLACK = resources.User(external_id="slack:T1:U1", display_name="Mia", email="Mia@Acme.example")


class Company:
    """A service, as Slack's bot is, and people with tokens of a provider."""

    def __init__(self, colloquy: Colloquy, idp: IdentityProviderDouble, bot: Caller) -> None:
        self.colloquy = colloquy
        self.idp = idp
        self.bot = bot

    def person(self, **claims: Any) -> Caller:
        said = {"sub": "okta-1", "email": ADDRESS, "email_verified": True, **claims}
        return Caller(self.colloquy.channel, self.idp.token(**said), far=self.colloquy.far)

    async def says(self, author: resources.User) -> resources.User:
        """Who said something that the bot brings."""
        conversation = await self.bot.create()
        stream = self.bot.send(conversation.id, "Hello", author=author)
        accepted = await stream.accepted()
        await stream.rest()
        return accepted.message.author

    async def users(self) -> list[str | None]:
        found = select(User).where(User.external_id.is_not(None)).order_by(User.id)
        rows = await self.colloquy.app.db.read(EVERY_ACCOUNT, lambda s: list(s.scalars(found)))
        return [row.external_id for row in rows]

    async def aliases(self) -> int:
        found = select(UserAlias)
        rows = await self.colloquy.app.db.read(EVERY_ACCOUNT, lambda s: list(s.scalars(found)))
        return len(rows)


async def who(caller: Caller) -> Any:
    """Who somebody is to themselves."""
    request = sessions_api.GetSessionRequest()
    sessions: Any = SessionServiceStub(caller.channel)
    return (await sessions.GetSession(request, metadata=caller.metadata)).user


@pytest.fixture
async def company(colloquy: Colloquy) -> AsyncIterator[Company]:
    rules = [{"when": "everyone", "account": "acme", "user": {"external_id": "{sub}"}}]
    async with IdentityProviderDouble() as idp:
        await colloquy.restart(
            oidc_issuer=idp.issuer,
            oidc_audience=AUDIENCE,
            oidc_rules=json.dumps(rules),
            key_check_interval=0.05,
        )
        made = await colloquy.admin.admin.CreateAccount(
            admin_api.CreateAccountRequest(name="Acme", external_id="acme"),
            metadata=colloquy.admin.metadata,
        )
        yield Company(colloquy, idp, await colloquy.key(made.account.id))


async def test_whoever_was_in_slack_first_is_the_same_at_the_page(company: Company) -> None:
    in_slack = await company.says(SLACK)
    at_page = await who(company.person())
    assert (at_page.id, at_page.external_id) == (in_slack.id, SLACK.external_id)
    assert at_page.email == ADDRESS
    assert await company.users() == [SLACK.external_id]


async def test_whoever_was_at_the_page_first_is_the_same_in_slack(company: Company) -> None:
    at_page = await who(company.person())
    in_slack = await company.says(SLACK)
    assert (in_slack.id, in_slack.external_id) == (at_page.id, "okta-1")
    # From now on by that name alone, which the bot also lists conversations by.
    plain = resources.User(external_id=SLACK.external_id)
    assert (await company.says(plain)).id == at_page.id
    listed = await company.bot.call(
        "ListConversations", api.ListConversationsRequest(participant_external_id="slack:T1:U1")
    )
    assert len(listed.conversations) == 2
    assert await company.users() == ["okta-1"]


@ANY
async def test_an_invited_person_is_the_same_too(company: Company) -> None:
    mia = company.person()
    at_page = await who(mia)
    conversation = await company.bot.create(
        visibility=resources.Conversation.VISIBILITY_PARTICIPANTS
    )
    others = [resources.User(external_id="slack:T1:U2", email="noah@acme.example")]
    for users in ([SLACK, *others], [SLACK]):
        request = api.AddParticipantsRequest(conversation_id=conversation.id, users=users)
        invited = (await company.bot.call("AddParticipants", request)).conversation
    ids = {user.id for user in invited.participants}
    assert at_page.id in ids
    assert len(ids) == 2
    assert not any(user.email for user in invited.participants), "shown to nobody else"
    assert (await mia.conversation(conversation.id)).id == conversation.id


async def test_by_several_ways_at_once_it_is_one_person(company: Company) -> None:
    names = [f"slack:T{number}:U" for number in range(6)]
    users = [resources.User(external_id=name, email=ADDRESS) for name in names]
    said, at_page = await asyncio.gather(
        asyncio.gather(*map(company.says, users)), who(company.person())
    )
    assert {user.id for user in said} == {at_page.id}
    assert len(await company.users()) == 1


@ANY
async def test_an_address_from_a_member_or_that_nobody_verified_is_nothing(
    company: Company,
) -> None:
    mia = await who(company.person())
    for claims in ({"email_verified": False}, {"email_verified": None}):
        other = company.person(sub=f"other {claims}", **claims)
        assert (await who(other)).id != mia.id
    key = await company.colloquy.key(
        company.bot.account_id,
        admin_api.ApiKey.ROLE_MEMBER,
        user=resources.User(external_id="noah", email=ADDRESS),
    )
    noah = await who(key)
    assert noah.id != mia.id
    named = resources.User(external_id="noah", email=ADDRESS)
    conversation = await key.create(author=named)
    stream = key.send(conversation.id, "Hello", author=named)
    assert (await stream.accepted()).message.author.id == noah.id
    await stream.rest()
    request = api.AddParticipantsRequest(
        conversation_id=conversation.id,
        users=[resources.User(external_id="made up", email=ADDRESS)],
    )
    invited = (await key.call("AddParticipants", request)).conversation
    assert mia.id not in {user.id for user in invited.participants}
    assert not (await who(key)).email
    assert (await who(company.person())).id == mia.id


@ANY
async def test_two_who_are_known_stay_apart(company: Company) -> None:
    at_page = await who(company.person())
    in_slack = await company.says(resources.User(external_id="slack:T1:U1"))
    assert in_slack.id != at_page.id
    assert (await company.says(SLACK)).id == in_slack.id
    assert (await who(company.person())).id == at_page.id
    # A third name is the first user's of whom the address was said.
    third = resources.User(external_id="teams:U1", email=ADDRESS)
    assert (await company.says(third)).id == at_page.id


@ANY
async def test_a_new_address_takes_the_place_of_the_old_one(company: Company) -> None:
    in_slack = await company.says(SLACK)
    new = resources.User(external_id=SLACK.external_id, email="mia@new.example")
    assert (await company.says(new)).id == in_slack.id
    assert (await who(company.person(email="mia@new.example"))).id == in_slack.id
    assert (await who(company.person(sub="another"))).id != in_slack.id, "the old one is free"


@ANY
async def test_addresses_belong_to_an_account(company: Company) -> None:
    in_slack = await company.says(SLACK)
    bob = await company.colloquy.account("bob")
    conversation = await bob.create()
    stream = bob.send(conversation.id, "Hello", author=SLACK)
    assert (await stream.accepted()).message.author.id != in_slack.id
    await stream.rest()


@ANY
async def test_other_names_go_with_the_person(company: Company) -> None:
    at_page = await who(company.person())
    await company.says(SLACK)
    assert await company.aliases() == 2
    admin = company.colloquy.admin
    await admin.admin.DeleteUser(
        admin_api.DeleteUserRequest(user_id=at_page.id), metadata=admin.metadata
    )
    assert await company.aliases() == 0
    assert (await company.says(SLACK)).id != at_page.id


@ANY
async def test_what_is_no_address_is_refused(company: Company) -> None:
    conversation = await company.bot.create()
    wrong = resources.User(external_id="x", email="no address")
    refusal = await refused(company.bot.send(conversation.id, "Hello", author=wrong).rest())
    assert refusal.status == "INVALID_ARGUMENT"
    assert list(refusal.fields) == ["email"]
