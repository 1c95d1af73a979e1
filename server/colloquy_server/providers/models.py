"""What the catalogue is made of: models, the providers that serve them, and what requests to them
carry."""

from __future__ import annotations

import importlib.util
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

OutputLimit = Literal["max_tokens", "max_completion_tokens", "none"]


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
class Timeouts:
    """Seconds that a provider may take; None: as the settings say.

    To accept a connection, to the first byte of the answer, between two of its events, and for the
    whole.
    """

    connect: float | None = None
    first_byte: float | None = None
    idle: float | None = None
    total: float | None = None

    def over(self, other: Timeouts) -> Timeouts:
        """These, and the other's where these say nothing."""
        return Timeouts(
            *(
                mine if mine is not None else theirs
                for mine, theirs in (
                    (self.connect, other.connect),
                    (self.first_byte, other.first_byte),
                    (self.idle, other.idle),
                    (self.total, other.total),
                )
            )
        )


@dataclass(frozen=True, slots=True)
class RequestRules:
    """What a request carries beside the conversation."""

    output_limit: OutputLimit | None = None
    """The field that limits the output; None: the one that most such servers know."""
    fields: Mapping[str, Any] = field(default_factory=lambda: types.MappingProxyType({}))
    """Fields that are added to the body, over those that are there anyway."""
    omit: frozenset[str] = frozenset()
    """Fields that are left out of the body, whoever put them there."""
    timeouts: Timeouts = Timeouts()

    def over(self, other: RequestRules) -> RequestRules:
        """These rules, and the other's where these say nothing."""
        return RequestRules(
            self.output_limit or other.output_limit,
            types.MappingProxyType({**other.fields, **self.fields}),
            self.omit | (other.omit - self.fields.keys()),
            self.timeouts.over(other.timeouts),
        )


@dataclass(frozen=True, slots=True)
class DiscoveryDefaults:
    """What holds for the models that a server is found to have, where it does not say itself."""

    context_window: int | None = None
    max_output_tokens: int | None = None
    input_kinds: frozenset[str] | None = None
    """None: what the server says."""
    input_price: float = 0.0
    output_price: float = 0.0


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
    alternate_roles: bool = False
    """Whether it refuses two messages of one role in a row: they are made one."""
    api_key_header: str = "Authorization"
    """The header that the key is sent in; in any other than this one it stands alone."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # some are secret
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    rules: RequestRules = field(default=RequestRules(), hash=False)
    discovery: DiscoveryDefaults | None = None
    """Set when it is asked which models it has."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model that conversations can choose, by its id."""

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
    rules: RequestRules = RequestRules()
    """Those of its provider included."""
    name: str = ""
    """What its provider knows it by, when that is not its id."""
    fallbacks: tuple[str, ...] = ()
    """The models that are asked in its place when it cannot answer, in this order."""

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def provider_name(self) -> str:
        """What its provider knows it by."""
        return self.name or self.id

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
    input_price: float = 0.0
    """USD per 1,000 tokens, as is `output_price`."""
    output_price: float = 0.0
