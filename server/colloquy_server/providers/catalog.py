"""The catalogue of AI models: what `config/ai_models.yml` says, checked once at the start."""

from __future__ import annotations

import importlib.util
import re
import types
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from colloquy_server.errors import InvalidField

EnvironLookup = Callable[[str], str | None]

_OFFER = 800
_SHOWN = 64
"""Bytes of the ids that an error offers, and characters that it shows of the one that was asked
for: a status travels in the trailers, which end at 8 KiB, three times."""


class CatalogError(Exception):
    """The models file, or a variable that it needs, cannot be used; the message is one line that
    names the place."""


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


@dataclass(frozen=True, slots=True)
class Weights:
    """A model file inside an installed Python package, served by a child process."""

    package: str
    file: str
    sha256: str
    """Of the whole file, in lower-case hex; checked before every use."""

    def path(self) -> Path | None:
        """Where the file is, or None when the package or the file is not installed.

        The package is found but never imported: it may need libraries that are not there.
        """
        spec = importlib.util.find_spec(self.package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            path = Path(folder) / self.file
            if path.is_file():
                return path.absolute()
        return None


@dataclass(frozen=True, slots=True)
class Provider:
    """An OpenAI-compatible endpoint."""

    id: str
    base_url: str | None = None
    """None: the OpenAI SDK's own address, or `OPENAI_BASE_URL`."""
    api_key_env: str | None = None
    """Name of the variable that holds the key; None: no key is sent."""
    weights: Weights | None = None
    """Set for the local model only, which has no address until its child process runs."""
    author_names: Literal["field", "envelope"] = "field"
    """How it is told who speaks when several people do: in the API's field `name`, or, where that
    is ignored, in a JSON object around each message."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model that conversations can choose. Its id is the name that its provider knows it by."""

    id: str
    provider: Provider
    input_kinds: frozenset[str]
    """What it takes in beside text: any of `image`, `audio`, `document`."""
    context_window: int
    """Input and output tokens together."""
    max_output_tokens: int
    input_price: float
    """USD per 1,000 tokens, as is `output_price`."""
    output_price: float
    cached_input_price: float | None = None
    """Of input that the provider had kept from an earlier request; None: as of all input."""
    request: Mapping[str, Any] = field(default_factory=lambda: types.MappingProxyType({}))
    """Fields that are added to the body of every request."""

    def __hash__(self) -> int:
        return hash(self.id)

    def cost_usd(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> float:
        """What a reply cost, in USD; `cached_tokens` are those of the input that were kept."""
        cached_price = self.cached_input_price
        cached = cached_tokens * (self.input_price if cached_price is None else cached_price)
        uncached = (input_tokens - cached_tokens) * self.input_price
        return (cached + uncached + output_tokens * self.output_price) / 1000


@dataclass(frozen=True, slots=True)
class Transcriber:
    """A model that writes recordings down."""

    id: str
    provider: Provider


@dataclass(frozen=True, slots=True)
class Catalog:
    """All models of the file, in its order, and which of them can be used here."""

    models: tuple[Model, ...]
    default_preference: tuple[str, ...]
    title_preference: tuple[str, ...]
    transcribers: tuple[Transcriber, ...]
    """Those that can be used here, the best first."""
    _available: frozenset[str]

    @classmethod
    def load(cls, path: str | Path, environ_lookup: EnvironLookup) -> Catalog:
        """Read the models file; `environ_lookup` gives an environment variable's value or None.

        Raises CatalogError.
        """
        entries = _read(Path(path))
        providers = {
            provider_id: Provider(
                id=provider_id,
                base_url=entry.base_url,
                api_key_env=entry.api_key_env,
                weights=Weights(**entry.weights.model_dump()) if entry.weights else None,
                author_names=entry.author_names,
            )
            for provider_id, entry in entries.providers.items()
        }
        for provider in providers.values():
            _check_variables(provider, environ_lookup)
        usable = {key for key, value in providers.items() if _is_usable(value, environ_lookup)}
        models = tuple(
            Model(
                id=model_id,
                provider=providers[entry.provider],
                input_kinds=frozenset(entry.input_kinds),
                context_window=entry.context_window,
                max_output_tokens=entry.max_output_tokens,
                input_price=entry.input_price,
                output_price=entry.output_price,
                cached_input_price=entry.cached_input_price,
                request=types.MappingProxyType(entry.request),
            )
            for model_id, entry in entries.models.items()
        )
        return cls(
            models=models,
            default_preference=tuple(entries.default_model),
            title_preference=tuple(entries.title_model),
            transcribers=tuple(
                Transcriber(entry.model, providers[entry.provider])
                for entry in entries.transcription_model
                if entry.provider in usable
            ),
            _available=frozenset(model.id for model in models if model.provider.id in usable),
        )

    def is_available(self, model: Model) -> bool:
        """Whether the model can be used: its key is set, or it needs none and is installed."""
        return model.id in self._available

    def available_ids(self) -> list[str]:
        """Ids of the models that can be used, in the file's order."""
        return [model.id for model in self.models if model.id in self._available]

    def resolve(self, model_id: str, field: str = "model") -> Model:
        """The model that a client named, in this field of its request. Raises ModelError."""
        offer = self._offer()
        shown = model_id if len(model_id) <= _SHOWN else f"{model_id[:_SHOWN]}…"
        model = next((model for model in self.models if model.id == model_id), None)
        if model is None:
            raise ModelError("MODEL_UNKNOWN", f'There is no model "{shown}". {offer}', field)
        if model.id not in self._available:
            raise ModelError(
                "MODEL_UNAVAILABLE", f'The model "{shown}" is not available here. {offer}', field
            )
        return model

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
        for model_id in preference:
            if model_id in self._available:
                return self.resolve(model_id)
        return None

    def _offer(self) -> str:
        ids = self.available_ids()
        sizes = accumulate(len(model_id.encode()) + len(", ") for model_id in ids)
        shown = [model_id for model_id, size in zip(ids, sizes, strict=True) if size <= _OFFER]
        names = ", ".join(shown)
        if len(shown) < len(ids):
            return f"Available models: {names} and {len(ids) - len(shown)} more: see ListModels."
        return f"Available models: {names}." if names else "No model is available."


def _is_usable(provider: Provider, environ_lookup: EnvironLookup) -> bool:
    if provider.weights is not None:
        installed = importlib.util.find_spec("xllamacpp") is not None
        return installed and provider.weights.path() is not None
    if provider.api_key_env is None:
        return True
    return bool((environ_lookup(provider.api_key_env) or "").strip())


def _check_variables(provider: Provider, environ_lookup: EnvironLookup) -> None:
    """Raises CatalogError for an address and for a key that no request can be made with."""
    if provider.base_url is None and provider.weights is None:
        name = "OPENAI_BASE_URL"
        url = (environ_lookup(name) or "").strip()
        try:
            if url:
                _check_url(url)
        except ValueError as error:
            raise CatalogError(f"{name}: {error}") from None
    key = (environ_lookup(provider.api_key_env) or "").strip() if provider.api_key_env else ""
    if not re.fullmatch("[!-~]*", key):
        raise CatalogError(
            f"{provider.api_key_env}: not a key: it holds a space, a line break or a character"
            " that is not ASCII"
        )


def _check_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # brackets, or a port that is none
        is_good = False
    if not is_good or re.search(r"\s", url):
        raise ValueError("must be a URL like https://api.example.com/v1")
    return url


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


_Name = Annotated[str, StringConstraints(min_length=1, max_length=128)]
_Preference = Annotated[list[_Name], BeforeValidator(_as_list), Field(min_length=1)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _WeightsEntry(_Entry):
    package: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    file: Annotated[str, StringConstraints(pattern=r"^[^/\\]+$")]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _ProviderEntry(_Entry):
    base_url: Annotated[str, AfterValidator(_check_url)] | None = None
    api_key_env: _Name | None = None
    weights: _WeightsEntry | None = None
    author_names: Literal["field", "envelope"] = "field"

    @model_validator(mode="after")
    def _can_be_reached(self) -> _ProviderEntry:
        if self.weights is None and self.base_url is None and self.api_key_env is None:
            raise ValueError("needs base_url, api_key_env or weights")
        if self.weights is not None and (self.base_url or self.api_key_env):
            raise ValueError("weights stand alone, without base_url and api_key_env")
        return self


class _ModelEntry(_Entry):
    provider: _Name
    input_kinds: list[Literal["image", "audio", "document"]] = []
    context_window: Annotated[int, Field(gt=0, lt=2**31)]
    max_output_tokens: Annotated[int, Field(gt=0)]
    input_price: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    output_price: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    cached_input_price: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    request: dict[str, Any] = {}

    @model_validator(mode="after")
    def _leaves_room_for_input(self) -> _ModelEntry:
        if self.max_output_tokens >= self.context_window:
            raise ValueError("max_output_tokens must be smaller than context_window")
        return self


class _TranscriberEntry(_Entry):
    model: _Name
    provider: _Name


class _FileEntry(_Entry):
    providers: dict[_Name, _ProviderEntry]
    models: dict[_Name, _ModelEntry]
    default_model: _Preference
    title_model: _Preference
    transcription_model: list[_TranscriberEntry] = []


class _UniqueKeyLoader(yaml.CSafeLoader):
    """Refuses a mapping that has a key twice, of which YAML silently drops the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else key_node
            if key in seen:
                line = key_node.start_mark.line + 1
                raise CatalogError(f'line {line}: "{key}" is there twice')
            seen.add(key)
        return super().construct_mapping(node, deep)


def _read(path: Path) -> _FileEntry:
    try:
        with path.open(encoding="utf-8") as file:
            content = yaml.load(file, Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
        entries = _FileEntry.model_validate(content)
        _check_references(entries)
    except OSError as error:
        raise CatalogError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CatalogError(f"{path}: not UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise CatalogError(f"{path}: line {line}: {error.problem}") from None
    except ValidationError as error:
        raise CatalogError(f"{path}: {_first_problem(error)}") from None
    except (yaml.YAMLError, RecursionError):
        raise CatalogError(f"{path}: not YAML") from None
    except ValueError as error:  # of 2024-13-45, say, which looks like a date
        raise CatalogError(f"{path}: not YAML: {error}") from None
    except CatalogError as error:
        raise CatalogError(f"{path}: {error}") from None
    return entries


def _check_references(entries: _FileEntry) -> None:
    for model_id, entry in entries.models.items():
        if entry.provider not in entries.providers:
            raise CatalogError(f'models.{model_id}.provider: no provider "{entry.provider}"')
    for transcriber in entries.transcription_model:
        if transcriber.provider not in entries.providers:
            raise CatalogError(f'transcription_model: no provider "{transcriber.provider}"')
    preferences = {"default_model": entries.default_model, "title_model": entries.title_model}
    for place, preference in preferences.items():
        for model_id in preference:
            if model_id not in entries.models:
                raise CatalogError(f'{place}: no model "{model_id}"')
        if len(set(preference)) < len(preference):
            raise CatalogError(f"{place}: a model is there twice")


def _first_problem(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_input=False)
    place = ".".join(str(part) for part in problems[0]["loc"])
    message = problems[0]["msg"].removeprefix("Value error, ")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{place}: {message}{more}" if place else f"{message}{more}"
