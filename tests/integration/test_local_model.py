"""The local model, for real: these tests fail when its engine or its weights are not installed."""

import asyncio
import contextlib
import hashlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from colloquy_server.providers.catalog import Catalog, Model, Weights
from colloquy_server.providers.client import ProviderError, Providers
from colloquy_server.providers.local_model import LocalModel, LocalModelError

from tests.harness import settle

ROOT = Path(__file__).parents[2]
MESSAGES = b'[{"role":"user","content":"Say hello."}]'


def no_environ(_name: str) -> None:
    return None


@pytest.fixture
def catalog() -> Catalog:
    return Catalog.load(ROOT / "config" / "ai_models.yml", no_environ)


@pytest.fixture
def model(catalog: Catalog) -> Model:
    """Raises, and so fails the test, when the model is not installed."""
    return catalog.resolve("smollm2-135m")


@pytest.fixture
async def local() -> AsyncIterator[LocalModel]:
    local = LocalModel()
    yield local
    await local.close()


@pytest.fixture
async def providers(catalog: Catalog, local: LocalModel) -> AsyncIterator[Providers]:
    providers = Providers({}, local_model=local)
    yield providers
    await providers.close()


async def ask(providers: Providers, model: Model, max_output_tokens: int = 8) -> str:
    async with providers.open(model, MESSAGES, max_output_tokens=max_output_tokens) as stream:
        text = "".join([piece async for piece in stream])
    assert stream.finish_reason in {"stop", "length"}
    assert stream.usage is not None
    assert 0 < stream.usage.output_tokens <= max_output_tokens
    assert stream.usage.input_tokens > 0
    return text


@pytest.mark.timeout(360)
async def test_it_answers_starts_once_when_needed_and_again_if_it_died(
    providers: Providers, local: LocalModel, model: Model
) -> None:
    assert local.pid is None
    texts = await asyncio.gather(*(ask(providers, model) for _ in range(3)))
    assert all(texts)
    first = local.pid
    assert first is not None

    os.kill(first, signal.SIGTERM)  # a terminal's or a container's; the server decides
    assert await ask(providers, model)
    assert local.pid == first

    async with providers.open(model, MESSAGES, max_output_tokens=512) as stream:
        with pytest.raises(ProviderError) as caught:
            async for _ in stream:
                os.kill(first, signal.SIGKILL)
    assert caught.value.reason == "PROVIDER_UNAVAILABLE"
    assert caught.value.retryable
    await settle(lambda: local.pid is None)
    assert await ask(providers, model)
    second = local.pid
    assert second is not None
    assert second != first

    await providers.close()
    assert local.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)
    with pytest.raises(ProviderError, match="shutting down"):
        await ask(providers, model)


async def test_it_ends_with_a_server_that_is_killed(model: Model) -> None:
    program = (
        "import asyncio, pathlib\n"
        "from colloquy_server.providers.catalog import Catalog\n"
        "from colloquy_server.providers.local_model import LocalModel\n"
        "async def main():\n"
        "    model = Catalog.load('config/ai_models.yml', {}.get).resolve('smollm2-135m')\n"
        "    local = LocalModel()\n"
        "    async with local.slot(model.provider.weights) as server:\n"
        "        print(server.base_url, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    address = urlsplit((await parent.stdout.readline()).decode().strip())
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(60):
        with pytest.raises(ConnectionRefusedError):
            while True:  # its connections end a moment before it does
                await _until_closed(reader, writer)
                reader, writer = await asyncio.open_connection(address.hostname, address.port)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
async def test_its_process_holds_no_key_and_answers_nobody_without_one(
    local: LocalModel, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert model.provider.weights is not None
    monkeypatch.setenv("ADMIN_API_KEY", "the-platform-key")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    async with local.slot(model.provider.weights) as server, aiohttp.ClientSession() as session:
        assert len(server.key) > 40
        assert server.key not in repr(server)
        url = f"{server.base_url}/chat/completions"
        body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
        statuses = []
        for headers in (
            {},
            {"Authorization": "Bearer x"},
            {"Authorization": f"Bearer {server.key}"},
        ):
            async with session.post(url, json=body, headers=headers) as response:
                statuses.append(response.status)
        assert statuses == [401, 401, 200]
        process = Path(f"/proc/{local.pid}")
        assert server.key.encode() not in (process / "cmdline").read_bytes()
        assert "NoNewPrivs:\t1" in (process / "status").read_text()
        with contextlib.suppress(PermissionError):  # it closes even that; root may look
            assert (process / "environ").read_bytes().split(b"\0") == [b"LC_ALL=C.UTF-8", b""]
    first = server
    await local._end_child()
    async with local.slot(model.provider.weights) as server:
        assert server.key != first.key


async def _until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        await reader.read()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_weights_that_are_not_the_right_ones_are_not_used(
    local: LocalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "weights_for_test"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('never imported')")
    (package / "model.gguf").write_bytes(b"not a model")
    monkeypatch.syspath_prepend(tmp_path)
    wrong = Weights("weights_for_test", "model.gguf", "0" * 64)
    with pytest.raises(LocalModelError, match="not the one"):
        async with local.slot(wrong):
            pass
    assert local.pid is None

    right = Weights("weights_for_test", "model.gguf", hashlib.sha256(b"not a model").hexdigest())
    with pytest.raises(LocalModelError, match="could not be started") as caught:
        async with local.slot(right):
            pass
    assert caught.value.detail

    missing = Weights("weights_for_test", "other.gguf", "0" * 64)
    with pytest.raises(LocalModelError, match="not installed"):
        async with local.slot(missing):
            pass


async def test_a_caller_that_gives_up_does_not_take_the_start_from_others(
    providers: Providers, model: Model
) -> None:
    first = asyncio.create_task(ask(providers, model))
    second = asyncio.create_task(ask(providers, model))
    await asyncio.sleep(0)  # both have begun
    first.cancel()
    assert await second
    assert first.cancelled()


async def test_closing_while_it_starts(
    providers: Providers, local: LocalModel, model: Model
) -> None:
    waiting = asyncio.create_task(ask(providers, model))
    await asyncio.sleep(0)  # the start has begun
    await local.close()
    with pytest.raises(ProviderError, match="shutting down"):
        await waiting
    assert local.pid is None
