"""The models file: reads the YAML and checks all that can be checked before anybody asks.

Whatever is wrong is one line that names the file, the place in it and what to do. The file's own
comments, `ai_models.yml`, say what each field means.
"""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Hashable, Iterable
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
    field_validator,
    model_validator,
)

from colloquy_server.providers.models import OutputLimit

InputKind = Literal["image", "audio", "document"]

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""Where a header or a query parameter takes a variable of the environment."""

MODEL_IN_URL = "{model}"
"""Where a `base_url` takes the name of the model that is asked."""

_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110
_OURS = frozenset({"connection", "content-length", "content-type", "host", "transfer-encoding"})
_NEEDED = frozenset({"messages"})


class CatalogError(Exception):
    """The models file, or a variable that it needs, cannot be used; the message is one line that
    names the place."""


class Entry(BaseModel):
    """A mapping of the file; a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class WeightsEntry(Entry):
    """`providers.*.weights`."""

    package: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    file: Annotated[str, StringConstraints(pattern=r"^[^/\\]+$")]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


def check_url(url: str) -> str:
    """The address of an endpoint, as it is. Raises ValueError that says what is wrong."""
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # brackets, or a port that is none
        is_good = False
    if not is_good or re.search(r"\s", url):
        raise ValueError("must be a URL like https://api.example.com/v1")
    if parts.fragment:
        raise ValueError('leave out the "#" and what follows it')
    if parts.path.rstrip("/").endswith("/chat/completions"):
        raise ValueError("leave out /chat/completions, which is added to it")
    if parts.username is not None:  # HTTP would send it in place of the key
        raise ValueError('leave out the user before "@", and send a header Authorization instead')
    if MODEL_IN_URL in url.replace(parts.path, "", 1):
        raise ValueError(f"{MODEL_IN_URL} can only stand in its path")
    return url


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _as_text(value: object) -> object:
    """What YAML takes for something else: `api-version: 2024-10-21` is a date."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.date):
        return value.isoformat()
    return str(value) if isinstance(value, int | float) else value


def _is_variable(name: str) -> str:
    if not _ENVIRONMENT_NAME.fullmatch(name):  # which may be the key: it is not shown
        raise ValueError("must be the name of an environment variable, not the key itself")
    return name


def _is_header(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError("is not the name of a header")
    if name.lower() in _OURS:
        raise ValueError("is a header that only the request itself can say")
    return name


def _is_header_value(value: str) -> str:
    if not re.fullmatch(r"[\x20-\x7e]*", value):
        raise ValueError("may hold printable ASCII characters only")
    return value


Name = Annotated[str, StringConstraints(min_length=1, max_length=128)]
_Preference = Annotated[list[Name], BeforeValidator(_as_list)]
_Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
_Text = Annotated[str, BeforeValidator(_as_text)]
_HeaderName = Annotated[str, AfterValidator(_is_header)]
_Tokens = Annotated[int, Field(gt=0, lt=2**31)]
_Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class TimeoutsEntry(Entry):
    """`timeouts` of a provider or of a model."""

    connect: _Seconds | None = None
    first_byte: _Seconds | None = None
    idle: _Seconds | None = None
    total: _Seconds | None = None


class RequestEntry(Entry):
    """What a provider and a model can both say of their requests; the model's word counts."""

    output_limit: OutputLimit | None = None
    request: dict[str, Any] = {}
    omit: list[Name] = []
    timeouts: TimeoutsEntry = TimeoutsEntry()

    @field_validator("request", "omit")
    @classmethod
    def _leaves_the_messages(cls, fields: Iterable[str]) -> Iterable[str]:
        if not _NEEDED.isdisjoint(fields):
            raise ValueError('"messages" is the conversation: leave it to Colloquy')
        return fields


class ProviderEntry(RequestEntry):
    """`providers.*`."""

    base_url: Annotated[str, AfterValidator(check_url)] | None = None
    api_key_env: Annotated[Name, AfterValidator(_is_variable)] | None = None
    api_key_header: _HeaderName = "Authorization"
    headers: dict[_HeaderName, Annotated[_Text, AfterValidator(_is_header_value)]] = {}
    query: dict[Name, _Text] = {}
    weights: WeightsEntry | None = None
    author_names: Literal["field", "envelope"] = "field"
    alternate_roles: bool = False
    discover: bool = False
    context_window: _Tokens | None = None
    max_output_tokens: _Tokens | None = None
    input_kinds: list[InputKind] | None = None
    input_price: _Price | None = None
    output_price: _Price | None = None

    @model_validator(mode="after")
    def _can_be_reached(self) -> ProviderEntry:
        if self.weights is None and self.base_url is None and self.api_key_env is None:
            raise ValueError("needs base_url, api_key_env or weights")
        if self.weights is not None and (self.base_url or self.api_key_env):
            raise ValueError("weights stand alone, without base_url and api_key_env")
        if self.weights is not None and (self.headers or self.query or self.discover):
            raise ValueError("weights stand alone, without headers, query and discover")
        names = [name.lower() for name in self.headers]
        if len(set(names)) < len(names):
            raise ValueError("headers: one is there twice, in other letters")
        if self.api_key_env is not None and self.api_key_header.lower() in names:
            raise ValueError(f"headers: {self.api_key_header} is what the key is sent as")
        return self

    @model_validator(mode="after")
    def _says_what_it_discovers(self) -> ProviderEntry:
        if self.discover:
            if self.base_url is None or MODEL_IN_URL in self.base_url:
                raise ValueError(f"discover needs a base_url, without {MODEL_IN_URL}")
            if (self.max_output_tokens or 0) >= (self.context_window or 2**31):
                raise ValueError("max_output_tokens must be smaller than context_window")
            return self
        prices = ("input_price", "output_price")
        for name in ("context_window", "max_output_tokens", "input_kinds", *prices):
            if getattr(self, name) is not None:
                raise ValueError(f"{name} is for discovered models: add discover: true, or move it")
        return self


class ModelEntry(RequestEntry):
    """`models.*`."""

    provider: Name
    name: Name | None = None
    fallbacks: _Preference = []
    input_kinds: list[InputKind] = []
    context_window: _Tokens
    max_output_tokens: Annotated[int, Field(gt=0)]
    input_price: _Price
    output_price: _Price
    cached_input_price: _Price | None = None

    @model_validator(mode="after")
    def _leaves_room_for_input(self) -> ModelEntry:
        if self.max_output_tokens >= self.context_window:
            raise ValueError("max_output_tokens must be smaller than context_window")
        return self


class TranscriberEntry(Entry):
    """One of `transcription_model`."""

    model: Name
    provider: Name
    input_price: _Price = 0.0
    output_price: _Price = 0.0


class FileEntry(Entry):
    """The whole file."""

    providers: dict[Name, ProviderEntry]
    models: dict[Name, ModelEntry] = {}
    default_model: _Preference = []
    title_model: _Preference = []
    transcription_model: list[TranscriberEntry] = []

    @property
    def discovers(self) -> bool:
        """Whether there may be models that it does not name."""
        return any(provider.discover for provider in self.providers.values())


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


def read(path: Path) -> FileEntry:
    """What the file says. Raises CatalogError."""
    try:
        with path.open(encoding="utf-8") as file:
            content = yaml.load(file, Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
        entries = FileEntry.model_validate(content)
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


def _check_references(entries: FileEntry) -> None:
    for model_id, entry in entries.models.items():
        if entry.provider not in entries.providers:
            raise CatalogError(f'models.{model_id}.provider: no provider "{entry.provider}"')
        _check_fallbacks(model_id, entry.fallbacks, entries)
    for transcriber in entries.transcription_model:
        if transcriber.provider not in entries.providers:
            raise CatalogError(f'transcription_model: no provider "{transcriber.provider}"')
    preferences = {"default_model": entries.default_model, "title_model": entries.title_model}
    for place, preference in preferences.items():
        if len(set(preference)) < len(preference):
            raise CatalogError(f"{place}: a model is there twice")
        if entries.discovers:
            continue  # it may name one that is not known yet, or leave the choice open
        if not preference:
            raise CatalogError(f"{place}: name at least one of the models")
        for model_id in preference:
            if model_id not in entries.models:
                raise CatalogError(f'{place}: no model "{model_id}"')


def _check_fallbacks(model_id: str, fallbacks: list[str], entries: FileEntry) -> None:
    place = f"models.{model_id}.fallbacks"
    if len(set(fallbacks)) < len(fallbacks):
        raise CatalogError(f"{place}: a model is there twice")
    if model_id in fallbacks:
        raise CatalogError(f"{place}: name others than the model itself")
    for fallback in fallbacks:
        if fallback not in entries.models and not entries.discovers:
            raise CatalogError(f'{place}: no model "{fallback}"')


_FIELDS = sorted(
    {name for kind in (FileEntry, ProviderEntry, ModelEntry, TimeoutsEntry, WeightsEntry)
     for name in kind.model_fields}
)  # fmt: skip


def _first_problem(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_input=False)
    location = [str(part) for part in problems[0]["loc"] if part != "[key]"]
    message = problems[0]["msg"].removeprefix("Value error, ")
    if problems[0]["type"] == "extra_forbidden":
        message = "there is no such field"
        if close := difflib.get_close_matches(location[-1], _FIELDS, n=1):
            message += f"; is {close[0]} meant?"
    elif problems[0]["type"] == "missing":
        message = "is missing: add it"
    place = ".".join(location)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{place}: {message}{more}" if place else f"{message}{more}"
