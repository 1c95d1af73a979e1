"""What a request carries is the catalogue's choice: doubles that refuse whatever else they get."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from colloquy_server.providers.catalog import Catalog, Model, Transcriber
from colloquy_server.providers.client import ProviderError, Providers
from colloquy_server.providers.connection import is_near

from tests.fakes.provider import Answer, ProviderDouble
from tests.fakes.provider_kinds import AZURE, MISTRAL, THINKING, Demands, PickyProvider

MESSAGES = b'[{"role":"user","content":"one two three"}]'
NUMBERS = {"context_window": 1000, "max_output_tokens": 100, "input_price": 0, "output_price": 0}
ENVIRON = {"KEY": "the-azure-key", "TEAM_KEY": "secret-team"}

Start = Callable[[Demands], Awaitable[PickyProvider]]
Load = Callable[..., Catalog]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    started: list[PickyProvider] = []

    async def start(demands: Demands) -> PickyProvider:
        started.append(PickyProvider(demands, title_models=set()))
        await started[-1].start()
        return started[-1]

    yield start
    for double in started:
        await double.close()


@pytest.fixture
async def providers() -> AsyncIterator[Providers]:
    providers = Providers(ENVIRON)
    yield providers
    await providers.close()


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(provider: dict[str, Any], **model: Any) -> Catalog:
        content = {
            "providers": {"p": provider},
            "models": {"m": {**NUMBERS, "provider": "p", **model}},
            "default_model": "m",
            "title_model": "m",
        }
        path = tmp_path / "models.yml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return Catalog.load(path, ENVIRON.get)

    return load


def origin(double: ProviderDouble) -> str:
    return double.base_url.removesuffix("/v1")


async def ask(providers: Providers, model: Model) -> str:
    async with providers.open(model, MESSAGES) as stream:
        return "".join([text async for text in stream])


@pytest.mark.parametrize(
    "how",
    [
        {"base_url": "{origin}/openai/deployments/our-gpt", "query": {"api-version": "2024-10-21"}},
        {"base_url": "{origin}/openai/deployments/{model}?api-version=2024-10-21"},
        {
            "base_url": "{origin}/openai/deployments/{model}/?api-version=2020-01-01",
            "query": {"api-version": "2024-10-21"},
        },
    ],
)
async def test_a_deployment_at_azure(
    start: Start, providers: Providers, load: Load, how: dict[str, Any]
) -> None:
    azure = await start(AZURE)
    how = {**how, "base_url": how["base_url"].replace("{origin}", origin(azure))}
    with_key = {**how, "api_key_env": "KEY", "api_key_header": "api-key"}
    model = load(with_key, name="our-gpt").resolve("m")
    assert await ask(providers, model)
    assert not azure.refused
    assert azure.requests[0].body["model"] == "our-gpt"
    assert azure.requests[0].body["max_tokens"] == 100
    # Only so: the key in any other way is refused.
    async with _another() as other:
        with pytest.raises(ProviderError):
            await ask(other, load({**how, "api_key_env": "KEY"}, name="our-gpt").resolve("m"))
    assert azure.refused


def _another() -> Any:
    """Connections of their own: those of a provider are made once."""

    class Another:
        async def __aenter__(self) -> Providers:
            self.providers = Providers(ENVIRON)
            return self.providers

        async def __aexit__(self, *_: object) -> None:
            await self.providers.close()

    return Another()


class Listener(ProviderDouble):
    """Keeps what recordings were sent to, and may send them elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.moved_to = ""

    async def _transcribe(self, request: web.Request) -> web.StreamResponse:
        self.targets.append(request.raw_path)
        if self.moved_to:
            raise web.HTTPTemporaryRedirect(self.moved_to)
        return await super()._transcribe(request)


async def test_a_recording_is_sent_the_same_way(providers: Providers, load: Load) -> None:
    async with Listener() as double:
        catalog = load(
            {
                "base_url": f"{double.base_url}?region=eu&api-version=0",
                "query": {"api-version": "1"},
                "api_key_env": "KEY",
                "api_key_header": "api-key",
                "headers": {"x-gateway-key": "${TEAM_KEY}"},
            }
        )
        transcriber = Transcriber("whisper", catalog.resolve("m").provider)
        said = await providers.transcribe(transcriber, io.BytesIO(b"la"), "a.mp3")
        assert said.text == "what was said"
        heard = double.transcriptions[0]
        assert double.targets == ["/v1/audio/transcriptions?region=eu&api-version=1"]
        assert heard.headers["api-key"] == "the-azure-key"
        assert heard.headers["x-gateway-key"] == "secret-team"
        assert "Authorization" not in heard.headers
        # No other host gets them.
        elsewhere = double.base_url.replace("127.0.0.1", "0.0.0.0")
        double.moved_to = f"{elsewhere}/audio/transcriptions"
        with pytest.raises(ProviderError):
            await providers.transcribe(transcriber, io.BytesIO(b"la"), "a.mp3")
        assert len(double.targets) == 2


async def test_models_that_think_get_no_field_that_they_refuse(
    start: Start, providers: Providers, load: Load
) -> None:
    double = await start(THINKING)
    named = {"base_url": double.base_url, "request": {"temperature": 0.5}}
    rules = {"output_limit": "max_completion_tokens", "omit": ["temperature"]}
    assert await ask(providers, load(named, **rules).resolve("m"))
    assert not double.refused
    assert double.requests[0].body["max_completion_tokens"] == 100
    with pytest.raises(ProviderError):
        await ask(providers, load(named).resolve("m"))


async def test_mistral_gets_no_field_that_it_does_not_know(
    start: Start, providers: Providers, load: Load
) -> None:
    double = await start(MISTRAL)
    shipped = Path(__file__).parents[2] / "config" / "ai_models.yml"
    mistral = yaml.safe_load(shipped.read_text("utf-8"))["providers"]["mistral"]
    assert mistral["author_names"] == "envelope"
    here = {**mistral, "base_url": double.base_url, "api_key_env": "KEY"}
    assert await ask(providers, load(here).resolve("m"))
    assert not double.refused
    async with _another() as other:
        with pytest.raises(ProviderError):
            await ask(other, load({**here, "omit": []}).resolve("m"))


async def test_a_gateway_gets_its_headers_and_no_other_host_does(
    start: Start, providers: Providers, load: Load
) -> None:
    wanted = {"x-team": "support", "x-key": "Token secret-team"}
    gateway = await start(Demands(headers=wanted, query={"region": "eu 1"}))
    said = {"x-team": "support", "x-key": "Token ${TEAM_KEY}"}
    provider = {
        "base_url": gateway.base_url,
        "headers": said,
        "query": {"region": "eu 1"},
        "api_key_env": "KEY",
        "api_key_header": "X-Api-Key",
    }
    model = load(provider).resolve("m")
    elsewhere = f"{gateway.base_url.replace('127.0.0.1', '0.0.0.0')}/chat/completions"
    moved = Answer(status=307, headers={"Location": f"{elsewhere}?region=eu%201"})
    gateway.script(Answer(), moved)
    assert await ask(providers, model)
    with pytest.raises(ProviderError):
        await ask(providers, model)
    assert gateway.requests[0].headers["X-Api-Key"] == "the-azure-key"
    assert len(gateway.requests) == 2, "the other host is not asked at all"
    assert "secret" not in repr(model)


async def test_a_model_overrides_its_provider_field_by_field(
    start: Start, providers: Providers, load: Load
) -> None:
    double = await start(Demands())
    provider = {
        "base_url": double.base_url,
        "output_limit": "none",
        "request": {"temperature": 0.5, "seed": 1},
        "omit": ["stream_options", "top_k"],
        "timeouts": {"first_byte": 7, "idle": 8},
    }
    catalog = load(
        provider, request={"seed": 2, "top_k": 3}, omit=["model"], timeouts={"idle": 9, "total": 10}
    )
    model = catalog.resolve("m")
    assert await ask(providers, model)
    body = double.requests[0].body
    assert {name: value for name, value in body.items() if name != "messages"} == {
        "stream": True,
        "temperature": 0.5,
        "seed": 2,
        "top_k": 3,
    }
    timeouts = model.rules.timeouts
    assert (timeouts.connect, timeouts.first_byte) == (None, 7)
    assert (timeouts.idle, timeouts.total) == (9, 10)


# Timeouts: what is shorter than a test's own limit by far ends, whatever the others are.


@pytest.mark.parametrize("at_model", [True, False])
@pytest.mark.parametrize(
    ("wait", "answer", "retryable"),
    [
        ("first_byte", Answer(delay=3600), True),
        ("first_byte", Answer(stall_after=0), True),
        ("idle", Answer(stall_after=1), True),
        ("total", Answer(delay=3600), False),
        ("total", Answer(stall_after=1), False),
        ("total", Answer(tokens=6_000, rate=100), False),
    ],
)
async def test_each_timeout_is_the_catalogues(
    start: Start,
    providers: Providers,
    load: Load,
    wait: str,
    answer: Answer,
    retryable: bool,
    at_model: bool,
) -> None:
    double = await start(Demands())
    double.script(answer)
    timeouts = {"timeouts": {wait: 0.5}}
    provider = {"base_url": double.base_url, **({} if at_model else timeouts)}
    model = load(provider, **(timeouts if at_model else {})).resolve("m")
    with pytest.raises(ProviderError) as caught:
        await ask(providers, model)
    assert caught.value.reason == "PROVIDER_TIMEOUT"
    assert caught.value.retryable is retryable
    await double.requests[0].ended()
    assert double.requests[0].outcome == "client closed"


async def test_comments_do_not_hold_a_reply_for_ever(
    start: Start, providers: Providers, load: Load
) -> None:
    """A gateway says that it is alive and never answers."""
    double = await start(Demands())
    double.default = Answer(raw=Comments())
    model = load({"base_url": double.base_url, "timeouts": {"first_byte": 0.1}}).resolve("m")
    with pytest.raises(ProviderError) as caught:
        await ask(providers, model)
    assert (caught.value.reason, caught.value.retryable) == ("PROVIDER_TIMEOUT", True)


class Comments(list[bytes]):
    """Comments without end, as packets of an answer; each blocks for a moment."""

    def __iter__(self) -> Any:
        while True:
            yield b": still working\n\n" * 1_000


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:11434", True),
        ("localhost:1234", True),
        ("[::1]:8000", True),
        ("192.168.1.7:8000", True),
        ("ollama:11434", True),
        ("host.docker.internal:11434", True),
        ("studio.local:1234", True),
        ("api.openai.com", False),
        ("8.8.8.8", False),
    ],
)
def test_which_servers_are_of_this_network(host: str, expected: bool) -> None:
    assert is_near(f"http://{host}/v1") is expected


async def test_a_server_of_this_network_gets_time_to_load_its_model(
    start: Start, load: Load
) -> None:
    """Seen by the deadline that its first wait has; nobody waits for it."""
    double = await start(Demands())
    for setting, usual in ((None, 300.0), (20.0, 20.0)):
        providers = Providers({}, first_byte_timeout=setting)
        model = load({"base_url": double.base_url}).resolve("m")
        started = asyncio.get_running_loop().time()
        async with providers.open(model, MESSAGES) as stream:
            left = stream._watchdog._deadline - started
            assert usual <= left < usual + 60
        await providers.close()
