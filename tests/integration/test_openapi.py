"""The description of the API over HTTP is one, is whole, and says what the server answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
from colloquy.api import conversation_service_pb2 as api
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.e2e.test_accounts_apart import METHODS
from tests.harness import Colloquy
from tests.uploads import upload


async def test_the_description_is_whole_and_true(tmp_path: Path) -> None:
    async with Colloquy(tmp_path) as colloquy:
        base = f"http://127.0.0.1:{colloquy.app.http_port}"
        async with aiohttp.ClientSession(base) as session:
            async with session.get("/openapi.json") as response:
                assert response.headers["content-encoding"] == "gzip"
                description = await response.json()
            identity = {"accept-encoding": "identity"}
            async with session.get("/openapi.json", headers=identity) as response:
                assert await response.json() == description
            OpenAPIV31SpecValidator(description).validate()
            for method in METHODS:
                path = f"/{method.containing_service.full_name}/{method.name}"
                post = description["paths"][path]["post"]
                assert post["description"], path
                kinds = set(post["requestBody"]["content"])
                streams = method.client_streaming or method.server_streaming
                assert kinds == {"application/connect+json" if streams else "application/json"}
                schema = description["components"]["schemas"][method.input_type.name]
                names = {field.json_name for field in method.input_type.fields}
                assert names == set(schema["properties"]), path

            alice = await colloquy.account()
            await upload(alice, b"Some text.")
            conversation = await alice.create(title="Described")
            reply = await alice.send(conversation.id).reply()
            ids = {"conversationId": conversation.id}
            service = f"/{api.DESCRIPTOR.services_by_name['ConversationService'].full_name}"
            asked: dict[str, dict[str, Any]] = {
                "ListModels": {},
                "GetConversation": ids,
                "ListConversations": {},
                "ListMessages": ids,
                "GetMessage": {"messageId": reply.id},
                "UpdateConversation": {
                    "conversation": {"id": conversation.id, "title": "New"},
                    "updateMask": "title",
                },
                "DeleteMessage": {"messageId": "no id"},
            }
            for name, body in asked.items():
                path = f"{service}/{name}"
                async with session.post(path, json=body, headers=dict(alice.metadata)) as response:
                    answer = await response.json()
                responses = description["paths"][path]["post"]["responses"]
                found = responses["200" if response.status == 200 else "default"]
                check(description, found["content"]["application/json"]["schema"], answer)


def check(description: dict[str, Any], schema: dict[str, Any], answer: Any) -> None:
    """Whether an answer is what its schema says, and has nothing that it does not name."""
    strict = json.loads(json.dumps(description["components"]["schemas"]))
    for each in strict.values():
        if each.get("type") == "object" and "properties" in each:
            each["additionalProperties"] = False
    validator = Draft202012Validator({**schema, "components": {"schemas": strict}})
    assert not list(validator.iter_errors(answer)), answer
