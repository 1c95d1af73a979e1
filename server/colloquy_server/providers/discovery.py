"""Asks servers which models they have: Ollama, LM Studio, vLLM, llama.cpp, gateways.

All answer `GET {base_url}/models` with ids. How many tokens a model takes only some of them say
there; LM Studio says it at `/api/v0/models`, and of Ollama's models `/api/show` says what the
context window can be at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from colloquy_server.providers.catalog import Catalog, Model, ModelError
from colloquy_server.providers.client import Providers
from colloquy_server.providers.connection import endpoint
from colloquy_server.providers.errors import ProviderError
from colloquy_server.providers.models import Provider

log = structlog.get_logger()

T = TypeVar("T")

FRESH_SECONDS = 5.0
"""How long an answer is good before it is asked for anew."""

PATIENCE_SECONDS = 2.0
"""How long a caller waits for answers; what comes later is there for the next one."""

_USUAL_WINDOW = 4_096
"""What Ollama and LM Studio load models with unless they are told otherwise. Of a longer request
they cut off the beginning and say nothing."""

_OUTPUT_PART = 4
"""The part of its window that a model may write, as a divisor, unless the catalogue says."""

_MAX_MODELS = 1_000
_MAX_ID = 128
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Found:
    """A model of a server, and what it said of it."""

    id: str
    window: int | None = None
    """The one that it is served with."""
    widest: int | None = None
    """The largest that it could be served with."""
    sees: bool = False


class Discovery:
    """The catalogue, kept up to date with what servers have."""

    def __init__(
        self,
        catalog: Catalog,
        providers: Providers,
        *,
        fresh: float = FRESH_SECONDS,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        """`fresh` and `patience`, in seconds, are as above."""
        self.catalog = catalog
        self._providers = providers
        self._fresh = fresh
        self._patience = patience
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._answered_at: dict[str, float] = {}
        self._troubles: dict[str, str] = {}

    def start(self) -> None:
        """Begins to ask all of them, and waits for none."""
        for provider in self.catalog.discovering:
            self._begin(provider)

    async def stop(self) -> None:
        """Asks no more."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def ready(self) -> None:
        """Waits for the first answers, or until it is clear that none comes."""
        discovering = self.catalog.discovering
        await self._wait([each for each in discovering if each.id not in self._answered_at])

    async def refresh(self) -> None:
        """Asks again those whose last answer is not fresh, and waits for them for a moment."""
        oldest = asyncio.get_running_loop().time() - self._fresh
        never = float("-inf")
        await self._wait(
            [
                provider
                for provider in self.catalog.discovering
                if self._answered_at.get(provider.id, never) <= oldest
            ]
        )

    async def choosing(self, choose: Callable[[], Awaitable[T]]) -> T:
        """Does what chooses a model of the catalogue, and does it again after asking for new models
        when the one that it wants is not there. Raises ModelError."""
        await self.ready()
        try:
            return await choose()
        except ModelError:
            if not self.catalog.discovering:
                raise
        await self.refresh()
        return await choose()

    async def resolve(self, model_id: str) -> Model:
        """A model of the catalogue; servers are asked when it is not known. Raises ModelError."""

        async def choose() -> Model:
            return self.catalog.resolve(model_id)

        return await self.choosing(choose)

    async def _wait(self, providers: Iterable[Provider]) -> None:
        tasks = [self._begin(provider) for provider in providers]
        if tasks:
            await asyncio.wait(tasks, timeout=self._patience)

    def _begin(self, provider: Provider) -> asyncio.Task[None]:
        task = self._tasks.get(provider.id)
        if task is None or task.done():
            task = self._tasks[provider.id] = asyncio.create_task(self._ask(provider))
        return task

    async def _ask(self, provider: Provider) -> None:
        """What a server that is away had stays in the catalogue: it comes back."""
        try:
            found = await _models_of(provider, self._providers)
        except ProviderError as error:
            self._note_trouble(provider, error.detail or error.reason)
        except Exception:
            log.exception("no models discovered", provider=provider.id)
        else:
            self._note_trouble(provider, "")
            if self.catalog.put_found(provider, [_model(provider, each) for each in found]):
                log.info("models discovered", provider=provider.id, count=len(found))
        self._answered_at[provider.id] = asyncio.get_running_loop().time()

    def _note_trouble(self, provider: Provider, trouble: str) -> None:
        """Says it once, not each time that somebody asks."""
        if trouble and self._troubles.get(provider.id) != trouble:
            log.warning("no models discovered", provider=provider.id, error=trouble)
        self._troubles[provider.id] = trouble


def _model(provider: Provider, found: Found) -> Model:
    defaults = provider.discovery
    assert defaults is not None
    window = found.window or min(
        defaults.context_window or _USUAL_WINDOW, found.widest or 2**31 - 1
    )
    output = min(defaults.max_output_tokens or window // _OUTPUT_PART or 1, window // 2)
    kinds = frozenset({"image"}) if found.sees else frozenset[str]()
    return Model(
        id=found.id,
        provider=provider,
        input_kinds=kinds if defaults.input_kinds is None else defaults.input_kinds,
        context_window=window,
        max_output_tokens=output,
        input_price=defaults.input_price,
        output_price=defaults.output_price,
        rules=provider.rules,
    )


async def _models_of(provider: Provider, providers: Providers) -> list[Found]:
    """Raises ProviderError when the server does not answer as one should."""
    address, _ = endpoint(provider, provider.base_url or "")
    root = address.removesuffix("/v1")
    listed = _list(await providers.fetch(provider, f"{address}/models"), "data")
    if listed is None:
        raise ProviderError("PROVIDER_REJECTED", detail="a list of models of another shape")
    found = {}
    for each in listed:
        model_id = each.get("id")
        # An id travels in requests, tables and messages.
        if isinstance(model_id, str) and 0 < len(model_id) <= _MAX_ID and model_id.isprintable():
            found[model_id] = Found(model_id, *_windows(each))
    if all(each.window is not None for each in found.values()):
        return list(found.values())

    async def ask(path: str, body: object = None) -> object:
        try:
            return await providers.fetch(provider, f"{root}{path}", body)
        except ProviderError:  # another kind of server
            return None

    lm_studio = _list(await ask("/api/v0/models"), "data")
    if lm_studio is not None:
        return list(_of_lm_studio(lm_studio, found))
    return await _of_ollama(found, lambda model_id: ask("/api/show", {"model": model_id}))


def _of_lm_studio(listed: list[Mapping[str, Any]], known: Mapping[str, Found]) -> Iterator[Found]:
    details = {str(each.get("id")): each for each in listed}
    for model_id, found in known.items():
        each = details.get(model_id, {})
        if each.get("type") == "embeddings":
            continue
        yield Found(
            model_id,
            found.window or _count(each.get("loaded_context_length")),
            _count(each.get("max_context_length")) or found.widest,
            sees=each.get("type") == "vlm",
        )


async def _of_ollama(known: Mapping[str, Found], show: Callable[[str], Any]) -> list[Found]:
    """The models, with what Ollama shows of each; all as they are if it is another server."""
    models = list(known.values())
    if not models:
        return models
    shown = [await show(models[0].id)]  # a server that is not Ollama is asked but once
    if not isinstance(shown[0], Mapping):
        return models
    limit = asyncio.Semaphore(_AT_ONCE)

    async def show_in_turn(found: Found) -> object:
        async with limit:
            return await show(found.id)

    shown += await asyncio.gather(*(show_in_turn(found) for found in models[1:]))
    described = (_shown(found, each) for found, each in zip(models, shown, strict=True))
    return [found for found in described if found is not None]


def _shown(found: Found, shown: object) -> Found | None:
    """None for a model that cannot chat, like those that make embeddings."""
    if not isinstance(shown, Mapping):
        return found
    capabilities = shown.get("capabilities")
    if isinstance(capabilities, list) and "completion" not in capabilities:
        return None
    info = shown.get("model_info")
    window, widest = found.window, found.widest
    if isinstance(info, Mapping):
        widths = (_count(info[name]) for name in info if str(name).endswith(".context_length"))
        widest = next((width for width in widths if width is not None), widest)
    for line in str(shown.get("parameters") or "").splitlines():
        name, _, value = line.strip().partition(" ")
        if name == "num_ctx" and value.strip().isdecimal():
            window = _count(int(value))
    sees = isinstance(capabilities, list) and "vision" in capabilities
    # As people call it; Ollama takes the name without its tag for the same.
    return Found(found.id.removesuffix(":latest"), window, widest, sees)


def _windows(listed: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """The window that a model is served with, as vLLM, gateways and llama.cpp call it, and the
    largest that it could be served with."""
    meta = listed.get("meta")
    of_llama_cpp = meta if isinstance(meta, Mapping) else {}
    places = [listed.get(name) for name in ("max_model_len", "context_length", "context_window")]
    counts = (_count(place) for place in (*places, of_llama_cpp.get("n_ctx")))
    window = next((count for count in counts if count is not None), None)
    return window, _count(of_llama_cpp.get("n_ctx_train"))


def _count(value: object) -> int | None:
    """A number of tokens, with room for a question and an answer."""
    return value if type(value) is int and 2 <= value < 2**31 else None


def _list(answer: object, name: str) -> list[Mapping[str, Any]] | None:
    listed = answer.get(name) if isinstance(answer, Mapping) else None
    if not isinstance(listed, list):
        return None
    return [each for each in listed[:_MAX_MODELS] if isinstance(each, Mapping)]
