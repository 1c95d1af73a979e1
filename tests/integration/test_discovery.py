"""Models that servers are found to have: Ollama, LM Studio, vLLM, llama.cpp."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from colloquy_server.providers.catalog import Catalog, Model, ModelError
from colloquy_server.providers.client import Providers
from colloquy_server.providers.discovery import Discovery

from tests.fakes.provider_kinds import ModelServer, listed

NUMBERS = {"context_window": 1000, "max_output_tokens": 100, "input_price": 0, "output_price": 0}

Make = Callable[..., Discovery]


def no_environ(_name: str) -> None:
    return None


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer(title_models=set()) as server:
        yield server
        if server.hold is not None:
            server.hold.set()


@pytest.fixture
async def make(tmp_path: Path, server: ModelServer) -> AsyncIterator[Make]:
    made: list[Discovery] = []
    providers = Providers({})

    def make(*, fresh: float = 0, patience: float = 60, **fields: Any) -> Discovery:
        provider = {"base_url": server.base_url, "discover": True, **fields}
        content = {
            "providers": {"local": provider, "other": {"base_url": "http://127.0.0.1:9/v1"}},
            "models": {"named": {**NUMBERS, "provider": "other"}},
            "default_model": ["wanted", "named"] if provider["discover"] else "named",
            "title_model": ["named"],
        }
        path = tmp_path / "models.yml"
        path.write_text(yaml.safe_dump(content))
        catalog = Catalog.load(path, no_environ)
        made.append(Discovery(catalog, providers, fresh=fresh, patience=patience))
        return made[-1]

    yield make
    for each in made:
        await each.stop()
    await providers.close()


async def found(discovery: Discovery) -> dict[str, Model]:
    """What is found, by id, without what the file names."""
    await discovery.refresh()
    models = {model.id: model for model in discovery.catalog.models}
    del models["named"]
    return models


async def test_vllm_says_the_window_itself(server: ModelServer, make: Make) -> None:
    server.pages["/v1/models"] = listed("Qwen/Qwen3-32B", max_model_len=32_768)
    model = (await found(make()))["Qwen/Qwen3-32B"]
    assert (model.context_window, model.max_output_tokens) == (32_768, 8_192)
    assert model.input_kinds == frozenset()
    assert (model.input_price, model.output_price) == (0, 0)
    assert server.asked == ["/v1/models"]


def ollama(**shown: dict[str, Any]) -> dict[str, Any]:
    """What Ollama answers: it says in its list nothing but ids."""
    return {
        "/v1/models": listed(*shown, owned_by="library"),
        "/api/show": lambda body: shown[body["model"]],
    }


async def test_of_ollama_the_window_is_the_one_that_it_uses(
    server: ModelServer, make: Make
) -> None:
    large = {"model_info": {"general.architecture": "llama", "llama.context_length": 131_072}}
    server.pages = ollama(
        usual={**large, "capabilities": ["completion", "tools"]},
        sees={**large, "capabilities": ["completion", "vision"], "parameters": "stop  x"},
        set={**large, "parameters": 'num_ctx                        16384\nstop "<|eot|>"'},
        small={"model_info": {"gpt2.context_length": 1024}},
        embeds={**large, "capabilities": ["embedding"]},
        odd={"model_info": "?", "capabilities": None},
    )
    models = await found(make())
    windows = {model_id: model.context_window for model_id, model in models.items()}
    assert windows == {"usual": 4096, "sees": 4096, "set": 16_384, "small": 1024, "odd": 4096}
    assert models["sees"].input_kinds == {"image"}
    assert models["usual"].input_kinds == frozenset()

    of_the_file = await found(make(context_window=8192, max_output_tokens=2048, input_kinds=[]))
    windows = {model_id: model.context_window for model_id, model in of_the_file.items()}
    assert windows == {"usual": 8192, "sees": 8192, "set": 16_384, "small": 1024, "odd": 8192}
    assert of_the_file["usual"].max_output_tokens == 2048
    assert of_the_file["small"].max_output_tokens == 512, "there is room for a question"
    assert of_the_file["sees"].input_kinds == frozenset()


async def test_a_model_of_ollama_is_called_as_people_call_it(
    server: ModelServer, make: Make
) -> None:
    server.pages = ollama(**{"llama3.2:latest": {"capabilities": ["completion"]}, "qwen3:4b": {}})
    assert set(await found(make())) == {"llama3.2", "qwen3:4b"}


async def test_lm_studio_says_what_is_loaded_and_how(server: ModelServer, make: Make) -> None:
    server.pages = {
        "/v1/models": listed("loaded", "idle", "picture", "embed", owned_by="organization_owner"),
        "/api/v0/models": {
            "data": [
                {"id": "loaded", "type": "llm", "state": "loaded",
                 "max_context_length": 131_072, "loaded_context_length": 20_000},
                {"id": "idle", "type": "llm", "state": "not-loaded", "max_context_length": 131_072},
                {"id": "picture", "type": "vlm", "max_context_length": 2048},
                {"id": "embed", "type": "embeddings", "max_context_length": 2048},
            ]
        },
    }  # fmt: skip
    models = await found(make())
    windows = {model_id: model.context_window for model_id, model in models.items()}
    assert windows == {"loaded": 20_000, "idle": 4096, "picture": 2048}
    assert models["picture"].input_kinds == {"image"}


async def test_any_other_server_is_taken_by_its_list(server: ModelServer, make: Make) -> None:
    llama = listed("llama", meta={"n_ctx_train": 8192, "n_ctx": 2048})
    llama["data"] += listed("train", meta={"n_ctx_train": 1024})["data"]
    llama["data"] += [{"id": ""}, {"id": "x" * 200}, {"id": 7}, "model", {"id": "line\nbreak"}]
    server.pages["/v1/models"] = llama
    models = await found(make())
    assert {name: model.context_window for name, model in models.items()} == {
        "llama": 2048,
        "train": 1024,
    }


async def test_what_the_file_names_stands_first(server: ModelServer, make: Make) -> None:
    server.pages["/v1/models"] = listed("wanted", "named", max_model_len=5000)
    discovery = make()
    await discovery.refresh()
    named = discovery.catalog.resolve("named")
    assert (named.provider.id, named.context_window) == ("other", 1000)
    default = discovery.catalog.default()
    assert default is not None
    assert (default.id, default.provider.id) == ("wanted", "local")
    assert discovery.catalog.available_ids() == ["named", "wanted"]


async def test_its_requests_are_as_the_catalogue_has_them(server: ModelServer, make: Make) -> None:
    server.pages["/v1/models"] = listed("wanted", max_model_len=5000)
    discovery = make(request={"temperature": 0.2}, output_limit="none", timeouts={"idle": 5})
    await discovery.refresh()
    model = discovery.catalog.resolve("wanted")
    providers = Providers({})
    async with providers.open(model, b"[]") as stream:
        assert [text async for text in stream]
    await providers.close()
    body = server.requests[0].body
    assert (body["model"], body["temperature"]) == ("wanted", 0.2)
    assert "max_tokens" not in body


async def test_a_start_waits_for_nobody(server: ModelServer, make: Make) -> None:
    server.hold = asyncio.Event()
    server.pages["/v1/models"] = listed("wanted", max_model_len=5000)
    discovery = make(patience=0.05)
    discovery.start()
    await server.was_asked.wait()
    assert discovery.catalog.available_ids() == ["named"]
    await discovery.refresh()  # it waits for a moment, and no longer
    assert discovery.catalog.available_ids() == ["named"]
    server.hold.set()
    while "wanted" not in discovery.catalog.available_ids():
        await discovery.refresh()


async def test_a_model_that_is_not_known_is_asked_for(server: ModelServer, make: Make) -> None:
    server.pages["/v1/models"] = listed("first", max_model_len=5000)
    discovery = make()
    assert (await discovery.resolve("first")).id == "first"
    with pytest.raises(ModelError, match="Available models: named, first") as caught:
        await discovery.resolve("new")
    assert caught.value.reason == "MODEL_UNKNOWN"
    server.pages["/v1/models"] = listed("new", max_model_len=5000)
    assert (await discovery.resolve("new")).id == "new"
    assert discovery.catalog.available_ids() == ["named", "new"], "what was deleted is gone"


async def test_a_fresh_answer_is_not_asked_for_again(server: ModelServer, make: Make) -> None:
    server.pages["/v1/models"] = listed("first", max_model_len=5000)
    discovery = make(fresh=3600)
    await asyncio.gather(*(discovery.refresh() for _ in range(5)))
    with pytest.raises(ModelError):
        await discovery.resolve("new")
    await discovery.refresh()
    assert server.asked == ["/v1/models"]


@pytest.mark.parametrize("answer", [None, "page", [], {"data": 7}, {"error": "secret"}])
async def test_a_server_that_is_away_is_said_to_be(
    server: ModelServer, make: Make, answer: object
) -> None:
    server.pages["/v1/models"] = answer
    discovery = make()
    with pytest.raises(ModelError, match="one of local, which does not answer") as caught:
        await discovery.resolve("llama")
    assert caught.value.reason == "MODEL_UNAVAILABLE"
    # What it had stays, when it goes away later: it comes back.
    server.pages["/v1/models"] = listed("llama", max_model_len=5000)
    await discovery.resolve("llama")
    server.pages["/v1/models"] = answer
    await discovery.refresh()
    assert discovery.catalog.resolve("llama").id == "llama"


async def test_without_discovery_nobody_is_asked(make: Make, server: ModelServer) -> None:
    discovery = make(discover=False)
    discovery.start()
    await discovery.ready()
    await discovery.refresh()
    with pytest.raises(ModelError):
        await discovery.resolve("wanted")
    assert server.asked == []
