"""The catalogue of AI models: the models file's, and those that servers are found to have."""

from __future__ import annotations

import importlib.util
import re
import types
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Literal

from colloquy_server.errors import InvalidField
from colloquy_server.providers import catalog_file
from colloquy_server.providers.catalog_file import VARIABLE, CatalogError
from colloquy_server.providers.models import (
    DiscoveryDefaults,
    Model,
    Provider,
    RequestRules,
    Timeouts,
    Transcriber,
    Weights,
)

__all__ = ["Catalog", "CatalogError", "Model", "ModelError", "Provider", "Transcriber", "Weights"]

EnvironLookup = Callable[[str], str | None]

_OFFER = 800
_SHOWN = 64
"""Bytes of the ids that an error offers, and characters that it shows of the one that was asked
for: a status travels in the trailers, which end at 8 KiB, three times."""


class ModelError(InvalidField):
    """A model that cannot be chosen.

    `reason` is `MODEL_UNKNOWN` (not in the file) or `MODEL_UNAVAILABLE` (its provider has no key
    or is not installed); the message is for end users and names the models that are available.
    """

    def __init__(
        self,
        reason: Literal["MODEL_UNKNOWN", "MODEL_UNAVAILABLE"],
        message: str,
        field: str = "model",
    ) -> None:
        """`field` is the path of the field that names the model."""
        super().__init__({field: message})
        self.reason = reason


class Catalog:
    """All models, in the file's order and then as they were found, and which can be used here."""

    def __init__(
        self,
        named: Sequence[Model],
        providers: Sequence[Provider],
        default_preference: Sequence[str],
        title_preference: Sequence[str],
        transcribers: Sequence[Transcriber],
        usable: frozenset[str],
    ) -> None:
        """`providers` are all of the file; `usable` are the ids of those that can be asked."""
        self.models: tuple[Model, ...] = tuple(named)
        self.default_preference = tuple(default_preference)
        self.title_preference = tuple(title_preference)
        self.transcribers = tuple(transcribers)
        """Those that can be used here, the best first."""
        self.discovering = tuple(
            provider for provider in providers if provider.discovery and provider.id in usable
        )
        """The providers that are asked which models they have."""
        self._named = self.models
        self._found: dict[str, tuple[Model, ...]] = {}
        self._usable = usable
        self._by_id = {model.id: model for model in self.models}

    @classmethod
    def load(cls, path: str | Path, environ_lookup: EnvironLookup) -> Catalog:
        """Read the models file; `environ_lookup` gives an environment variable's value or None.

        Raises CatalogError.
        """
        entries = catalog_file.read(Path(path))
        usable = frozenset(
            provider_id
            for provider_id, entry in entries.providers.items()
            if _is_usable(entry, environ_lookup)
        )
        providers = {
            provider_id: _provider(provider_id, entry, environ_lookup)
            for provider_id, entry in entries.providers.items()
        }
        return cls(
            [
                _model(model_id, entry, providers[entry.provider])
                for model_id, entry in entries.models.items()
            ],
            list(providers.values()),
            entries.default_model,
            entries.title_model,
            [
                Transcriber(
                    entry.model,
                    providers[entry.provider],
                    entry.input_price,
                    entry.output_price,
                )
                for entry in entries.transcription_model
                if entry.provider in usable
            ],
            usable,
        )

    def put_found(self, provider: Provider, found: Sequence[Model]) -> bool:
        """Takes what a provider was found to have; returns whether that is news. An id that is
        taken stays whose it is: the file's, or else of the provider that comes first in it."""
        if self._found.get(provider.id) == tuple(found):
            return False
        self._found[provider.id] = tuple(found)
        by_id = {model.id: model for model in self._named}
        for each in self.discovering:
            for model in self._found.get(each.id, ()):
                by_id.setdefault(model.id, model)
        self._by_id, self.models = by_id, tuple(by_id.values())
        return True

    def is_available(self, model: Model) -> bool:
        """Whether the model can be used: its key is set, or it needs none and is installed."""
        return model.provider.id in self._usable

    def available_ids(self) -> list[str]:
        """Ids of the models that can be used, in order."""
        return [model.id for model in self.models if self.is_available(model)]

    def resolve(self, model_id: str, field: str = "model") -> Model:
        """The model that a client named, in this field of its request. Raises ModelError."""
        model = self._by_id.get(model_id)
        if model is not None and self.is_available(model):
            return model
        offer = self._offer()
        shown = model_id if len(model_id) <= _SHOWN else f"{model_id[:_SHOWN]}…"
        if model is not None:
            raise ModelError(
                "MODEL_UNAVAILABLE", f'The model "{shown}" is not available here. {offer}', field
            )
        silent = [each.id for each in self.discovering if each.id not in self._found]
        if silent:
            raise ModelError(
                "MODEL_UNAVAILABLE",
                f'There is no model "{shown}", or it is one of {" or ".join(silent)}, which does'
                f" not answer. {offer}",
                field,
            )
        raise ModelError("MODEL_UNKNOWN", f'There is no model "{shown}". {offer}', field)

    def fallbacks(self, model_id: str) -> tuple[str, ...]:
        """The models that may answer in place of one, the best first; they may be unavailable."""
        model = self._by_id.get(model_id)
        return model.fallbacks if model is not None else ()

    def find(self, model_id: str) -> Model | None:
        """A model by its id, available or not; None when there is none of that id."""
        return self._by_id.get(model_id)

    def default(self) -> Model | None:
        """The model of conversations that choose none; None when none is available."""
        return self._first(self.default_preference)

    def title(self) -> Model | None:
        """The model that names conversations; None when none is available."""
        return self._first(self.title_preference)

    def transcription(self) -> Transcriber | None:
        """The model that writes recordings down; None when none is available."""
        return self.transcribers[0] if self.transcribers else None

    def _first(self, preference: tuple[str, ...]) -> Model | None:
        chosen = [self._by_id[name] for name in preference if name in self._by_id]
        for model in chosen if preference else self.models:
            if self.is_available(model):
                return model
        return None

    def no_default(self, field: str) -> ModelError:
        """What somebody is told who chose no model when none of the preferred is available."""
        why = f"None of default_model is available. {self._offer()}"
        if not self.available_ids():
            servers = ", ".join(provider.id for provider in self.discovering)
            start = f", or start what does not answer: {servers}" if servers else ""
            why = f"No model is available: set a provider's key on the server{start}."
        return ModelError("MODEL_UNAVAILABLE", why, field)

    def _offer(self) -> str:
        ids = self.available_ids()
        sizes = accumulate(len(model_id.encode()) + len(", ") for model_id in ids)
        shown = [model_id for model_id, size in zip(ids, sizes, strict=True) if size <= _OFFER]
        names = ", ".join(shown)
        if len(shown) < len(ids):
            return f"Available models: {names} and {len(ids) - len(shown)} more: see ListModels."
        return f"Available models: {names}." if names else "No model is available."


def _provider(
    provider_id: str, entry: catalog_file.ProviderEntry, environ_lookup: EnvironLookup
) -> Provider:
    """Raises CatalogError for an address, a key and a header that no request can be made with."""
    _check_variables(entry, environ_lookup)
    headers = [(name, _filled(value, environ_lookup)) for name, value in entry.headers.items()]
    query = [(name, _filled(value, environ_lookup)) for name, value in entry.query.items()]
    return Provider(
        id=provider_id,
        base_url=entry.base_url,
        api_key_env=entry.api_key_env,
        weights=Weights(**entry.weights.model_dump()) if entry.weights else None,
        author_names=entry.author_names,
        alternate_roles=entry.alternate_roles,
        api_key_header=entry.api_key_header,
        headers=tuple(headers),
        query=tuple(query),
        rules=_rules(entry),
        discovery=_defaults(entry) if entry.discover else None,
    )


def _model(model_id: str, entry: catalog_file.ModelEntry, provider: Provider) -> Model:
    return Model(
        id=model_id,
        provider=provider,
        input_kinds=frozenset(entry.input_kinds),
        context_window=entry.context_window,
        max_output_tokens=entry.max_output_tokens,
        input_price=entry.input_price,
        output_price=entry.output_price,
        cached_input_price=entry.cached_input_price,
        rules=_rules(entry).over(provider.rules),
        name=entry.name or "",
        fallbacks=tuple(entry.fallbacks),
    )


def _rules(entry: catalog_file.RequestEntry) -> RequestRules:
    return RequestRules(
        entry.output_limit,
        types.MappingProxyType(entry.request),
        frozenset(entry.omit),
        Timeouts(**entry.timeouts.model_dump()),
    )


def _defaults(entry: catalog_file.ProviderEntry) -> DiscoveryDefaults:
    kinds = entry.input_kinds
    return DiscoveryDefaults(
        entry.context_window,
        entry.max_output_tokens,
        frozenset(kinds) if kinds is not None else None,
        entry.input_price or 0.0,
        entry.output_price or 0.0,
    )


def _is_usable(entry: catalog_file.ProviderEntry, environ_lookup: EnvironLookup) -> bool:
    if entry.weights is not None:
        installed = importlib.util.find_spec("xllamacpp") is not None
        return installed and Weights(**entry.weights.model_dump()).path() is not None
    values = (*entry.headers.values(), *entry.query.values())
    needed = [name for value in values for name in VARIABLE.findall(value)]
    if entry.api_key_env is not None:
        needed.append(entry.api_key_env)
    return all((environ_lookup(name) or "").strip() for name in needed)


def _filled(value: str, environ_lookup: EnvironLookup) -> str:
    """A value of the file with the environment's variables in it."""

    def variable(match: re.Match[str]) -> str:
        return _sendable(match[1], environ_lookup)

    return VARIABLE.sub(variable, value)


def _sendable(name: str, environ_lookup: EnvironLookup) -> str:
    """A variable's value, if it can be sent. Raises CatalogError, without the value."""
    value = (environ_lookup(name) or "").strip()
    if not re.fullmatch("[!-~]*", value):
        raise CatalogError(
            f"{name}: not a key: it holds a space, a line break or a character that is not ASCII"
        )
    return value


def _check_variables(entry: catalog_file.ProviderEntry, environ_lookup: EnvironLookup) -> None:
    if entry.base_url is None and entry.weights is None:
        name = "OPENAI_BASE_URL"
        url = (environ_lookup(name) or "").strip()
        try:
            if url:
                catalog_file.check_url(url)
        except ValueError as error:
            raise CatalogError(f"{name}: {error}") from None
    if entry.api_key_env:
        _sendable(entry.api_key_env, environ_lookup)
