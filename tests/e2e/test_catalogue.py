"""Providers that are particular, and servers that are asked which models they have, by the API."""

from __future__ import annotations

import json
from pathlib import Path

from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources

from tests.fakes.provider_kinds import AZURE, MISTRAL, Demands, ModelServer, PickyProvider, listed
from tests.harness import TITLE, Caller, Colloquy
from tests.statuses import refused

COMPLETED = resources.Message.STATE_COMPLETED

_NUMBERS = "context_window: 9000, max_output_tokens: 100, input_price: 0, output_price: 0"


class Picky(Colloquy):
    """A fleet with a provider that refuses what it does not want."""

    def __init__(self, folder: Path, demands: Demands, provider: str) -> None:
        super().__init__(folder)
        self.provider = PickyProvider(demands, title_answer=TITLE)
        self.models = f"""
providers:
  picky: {provider}
models:
  our-gpt: {{{{provider: picky, {_NUMBERS}}}}}
default_model: our-gpt
title_model: our-gpt
"""


async def test_a_reply_of_a_deployment_at_azure(tmp_path: Path) -> None:
    provider = """{{api_key_env: DOUBLE_KEY, api_key_header: api-key,
    base_url: "{base_url}/../openai/deployments/{{model}}", query: {{api-version: 2024-10-21}}}}"""
    demands = Demands(
        path=AZURE.path,
        query=AZURE.query,
        headers={"api-key": "the-key-of-the-double"},
        no_headers=AZURE.no_headers,
    )
    async with Picky(tmp_path, demands, provider) as colloquy:
        alice = await colloquy.account()
        reply = await alice.send((await alice.create()).id).reply()
        assert reply.state == COMPLETED
        assert reply.content


async def test_people_speak_with_mistral_and_it_gets_no_field_that_it_refuses(
    tmp_path: Path,
) -> None:
    provider = '{{base_url: "{base_url}", author_names: envelope, omit: [stream_options]}}'
    async with Picky(tmp_path, MISTRAL, provider) as colloquy:
        alice = await colloquy.account()
        conversation = await alice.create(title="Of many")
        for name in ("Ann", "Bob"):
            author = resources.User(external_id=name, display_name=name)
            reply = await alice.send(conversation.id, "Hi", author=author).reply()
            assert reply.state == COMPLETED
        assert isinstance(colloquy.provider, PickyProvider)
        assert not colloquy.provider.refused
        first = json.loads(colloquy.provider.reply_requests[-1].messages[-1]["content"])
        assert "Bob" in first.values()


class Discovering(Colloquy):
    """A fleet whose models are what a server has."""

    models = """
providers:
  ollama: {{base_url: "{base_url}", discover: true}}
default_model: [wanted]
"""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.server = self.provider = ModelServer()


async def ids(caller: Caller) -> list[str]:
    """What ListModels lists."""
    response = await caller.call("ListModels", api.ListModelsRequest())
    return [model.id for model in response.models]


async def test_models_of_a_server_are_listed_chosen_and_answer(tmp_path: Path) -> None:
    async with Discovering(tmp_path) as colloquy:
        server = colloquy.server
        server.pages["/v1/models"] = listed("other", "wanted", max_model_len=8000)
        await colloquy.restart()
        alice = await colloquy.account()
        # The first request after a start finds them, whether or not anybody listed them.
        conversation = await alice.create(title="Discovered")
        assert conversation.model == "wanted"
        assert await ids(alice) == ["other", "wanted"]
        assert (await alice.send(conversation.id).reply()).state == COMPLETED
        assert server.reply_requests[-1].body["model"] == "wanted"
        assert (await refused(alice.create(model="new"))).reason == "MODEL_UNKNOWN"


async def test_a_server_that_is_away_delays_nobody_and_is_found_when_it_is_back(
    tmp_path: Path,
) -> None:
    async with Discovering(tmp_path) as colloquy:
        server = colloquy.server
        colloquy.app.discovery._fresh = 0  # each request is the first for long
        alice = await colloquy.account()
        assert await ids(alice) == []
        refusal = await refused(alice.create(model="wanted"))
        assert refusal.reason == "MODEL_UNAVAILABLE"
        assert "ollama" in refusal.message
        server.pages["/v1/models"] = listed("wanted", max_model_len=8000)
        conversation = await alice.create(title="Discovered")
        assert conversation.model == "wanted"
        await colloquy.restart()
        alice = alice.at(colloquy)
        assert (await alice.send(conversation.id).reply()).state == COMPLETED
