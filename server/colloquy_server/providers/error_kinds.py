"""Which kind of failure a provider tells of: by its words, its codes and the HTTP status.

The tables hold what OpenAI, Azure, Anthropic, Google, Mistral, OpenRouter, Groq, xAI, DeepSeek,
Together, vLLM, llama.cpp, Ollama, LM Studio and LiteLLM send. Many of them have a status or a code
that says less than the sentence beside it: Anthropic tells of an empty account by 400, Google of a
wrong key by 400, Groq of its rate limit by 413.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

Reason = Literal[
    "PROVIDER_RATE_LIMITED",
    "PROVIDER_AUTHENTICATION",
    "PROVIDER_REJECTED",
    "PROVIDER_QUOTA",
    "PROVIDER_UNAVAILABLE",
    "PROVIDER_TIMEOUT",
    "CONTENT_FILTERED",
]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of failure: an ErrorReason's name without its prefix, and what end users are told."""

    reason: Reason
    message: str
    is_about_content: bool = False
    """Whether the same question in another form may do."""
    is_too_long: bool = False
    """Whether a shorter request may do."""


RATE_LIMITED = Kind(
    "PROVIDER_RATE_LIMITED",
    "The AI provider is receiving too many requests. Try again in a minute.",
)
OVER_THE_RATE = Kind(
    "PROVIDER_RATE_LIMITED",
    "This conversation is longer than what the AI provider takes from this server in a minute. "
    "Shorten the message, start a new conversation, or choose another model.",
)
AUTHENTICATION = Kind(
    "PROVIDER_AUTHENTICATION",
    "The AI provider did not accept this server's API key. "
    "Ask its operator to check the key, or choose another model.",
)
REJECTED = Kind(
    "PROVIDER_REJECTED",
    "The AI provider did not accept this request. "
    "Change the message, start a new conversation, or choose another model.",
    is_about_content=True,
)
TOO_LONG = Kind(
    "PROVIDER_REJECTED",
    "This conversation is too long for the model. "
    "Shorten the message, start a new conversation, or choose a model with a larger window.",
    is_about_content=True,
    is_too_long=True,
)
NO_SUCH_MODEL = Kind(
    "PROVIDER_REJECTED",
    "The AI provider does not offer this model to this server. Choose another model.",
)
WRONG_ADDRESS = Kind(
    "PROVIDER_REJECTED",
    "The address that this server has for the AI provider is not right. "
    "Ask its operator to correct it, or choose another model.",
)
CONFIGURATION = Kind(
    "PROVIDER_REJECTED",
    "The AI provider does not accept what this server is set up to ask of the model. "
    "Ask its operator to correct the model's settings, or choose another model.",
)
REGION = Kind(
    "PROVIDER_REJECTED",
    "The AI provider does not serve the country that this server is in. Choose another model.",
)
TURNED_AWAY = Kind(
    "PROVIDER_REJECTED",
    "The AI provider's server, or a firewall before it, turned this server away without a reason. "
    "Ask its operator to check how it is reached, or choose another model.",
)
NO_PICTURES = Kind(
    "PROVIDER_REJECTED",
    "The model does not take pictures. Choose a model that does, "
    "or start a new conversation without them.",
    is_about_content=True,
)
TOO_MANY_PICTURES = Kind(
    "PROVIDER_REJECTED",
    "This conversation holds more pictures than the model takes at once. "
    "Start a new conversation, or choose another model.",
    is_about_content=True,
)
NO_SYSTEM_PROMPT = Kind(
    "PROVIDER_REJECTED",
    "The model takes no system prompt. Start a conversation without one, or choose another model.",
)
QUOTA = Kind(
    "PROVIDER_QUOTA",
    "The account at the AI provider has no credit left. "
    "Ask the operator of this server to top it up, or choose another model.",
)
UNAVAILABLE = Kind(
    "PROVIDER_UNAVAILABLE", "The AI provider cannot be reached or failed. Try again later."
)
TIMEOUT = Kind("PROVIDER_TIMEOUT", "The AI provider took too long to answer. Try again.")
FILTERED = Kind(
    "CONTENT_FILTERED",
    "The AI provider's content filter stopped this reply. Change the message and try again.",
)

KINDS: dict[Reason, Kind] = {
    kind.reason: kind
    for kind in (RATE_LIMITED, AUTHENTICATION, REJECTED, QUOTA, UNAVAILABLE, TIMEOUT, FILTERED)
}
"""What each reason means where no more is known."""

_STATUSES = {
    401: AUTHENTICATION,
    402: QUOTA,
    403: AUTHENTICATION,
    408: TIMEOUT,
    409: UNAVAILABLE,
    413: TOO_LONG,
    425: UNAVAILABLE,
    429: RATE_LIMITED,
    498: UNAVAILABLE,  # Groq: no capacity at this moment
    499: UNAVAILABLE,
    504: TIMEOUT,
}


def _codes(kind: Kind, *codes: str) -> dict[str, Kind]:
    return dict.fromkeys(codes, kind)


# Identifiers (`code`, `type`, `status`, `reason`) that say more than the HTTP status does.
_DECISIVE = {
    **_codes(
        QUOTA,
        *("insufficient_quota", "billing_hard_limit_reached", "billing_not_active"),
        *("billing_error", "billing_disabled", "insufficient_balance", "insufficient_credits"),
        *("exceeded_current_quota_error", "budget_exceeded", "blocked_api_access", "arrearage"),
        *("credit_balance_too_low", "1113"),
    ),
    **_codes(
        FILTERED,
        *("content_filter", "content_policy_violation", "responsibleaipolicyviolation"),
        *("flagged_input", "data_inspection_failed", "contentpolicyviolationerror"),
        *("prohibited_content", "1301"),
    ),
    **_codes(
        AUTHENTICATION,
        *("invalid_api_key", "api_key_invalid", "api_key_expired", "wrong_api_key"),
        *("api_key_service_blocked", "account_deactivated", "organization_restricted"),
        *("invalid_authentication_error", "token_not_found_in_db", "consumer_suspended"),
        *("expired_key", "invalid_organization", "mismatched_organization"),
    ),
    **_codes(
        TOO_LONG,
        *("context_length_exceeded", "exceed_context_size_error", "string_above_max_length"),
        *("request_too_large", "contextwindowexceedederror", "1261", "3051"),
    ),
    **_codes(
        RATE_LIMITED,
        *("rate_limit_exceeded", "rate_limit_error", "too_many_requests", "throttlingexception"),
        *("too_many_requests_error", "rate_limit_reached_error", "queue_exceeded"),
        *("ratelimiterror", "1302", "3505"),
    ),
    **_codes(
        NO_SUCH_MODEL,
        *("model_not_found", "invalid_model", "model_decommissioned", "deploymentnotfound"),
        *("key_model_access_denied", "team_model_access_denied", "model_not_available"),
        *("model_permission_blocked_org", "model_permission_blocked_project", "1211"),
    ),
    **_codes(
        CONFIGURATION,
        *("unsupported_parameter", "unknown_parameter", "extra_forbidden"),
        *("unsupportedparamserror",),
    ),
    **_codes(WRONG_ADDRESS, "unknown_url"),
    **_codes(REGION, "unsupported_country_region_territory"),
}

# Identifiers that say only as much as a status does, and are asked when there is none.
_SOFT = {
    **_codes(AUTHENTICATION, "authentication_error", "permission_error", "permission_denied"),
    **_codes(AUTHENTICATION, "unauthenticated", "auth_error", "authenticationerror"),
    **_codes(RATE_LIMITED, "requests", "tokens", "resource_exhausted"),
    **_codes(TIMEOUT, "timeout", "timeout_error", "deadline_exceeded"),
    **_codes(
        REJECTED,
        *("invalid_request_error", "bad_request_error", "badrequesterror", "invalid_argument"),
        *("validationexception",),
    ),
    **_codes(NO_SUCH_MODEL, "not_found_error", "notfounderror"),
}

_ANY = range(1_000)
_REFUSED = (400, 403, 404, 405, 406, 410, 412, 413, 415, 422, 451)


@dataclass(frozen=True, slots=True)
class _Wording:
    kind: Kind
    statuses: Collection[int]
    """With which it counts; without a status it always does."""
    pattern: re.Pattern[str]


def _wording(kind: Kind, statuses: Collection[int], *patterns: str) -> _Wording:
    return _Wording(kind, statuses, re.compile("|".join(patterns), re.IGNORECASE | re.MULTILINE))


_OVER_THE_RATE = _wording(
    OVER_THE_RATE,
    (413, 429),
    r"request too large for .{0,300}per (?:min|day|hour)",
    r"tokens per (?:minute|min|day).{0,200}reduce your message",
)

# Sentences, in the order in which they are looked for.
_WORDINGS = (
    _wording(
        RATE_LIMITED,
        (400, 403, 413),
        r"\brate.?limit",
        r"(?:tokens|requests) per (?:minute|min|second|day)\b",
        r"too many requests",
    ),
    _wording(
        QUOTA,
        _ANY,
        r"credit balance is too low",
        r"insufficient (?:balance|credits?|funds)",
        r"(?:more|any|no|available|out of|enough) credits\b",
        r"(?:reached|exceeded) .{0,40}(?:usage|spend|spending) limit",
        r"spend(?:ing)? limit",
        r"out of call volume quota",
        r"billing hard limit",
        r"budget has been exceeded",
        r"account .{0,60}(?:not active|suspended|in arrears)",
        # Google begins like OpenAI, of every limit, each minute's too.
        r"exceeded your current quota.{0,200}openai\.com",
    ),
    _wording(QUOTA, (400, 402, 403), r"exceeded your current quota"),
    _wording(
        AUTHENTICATION,
        (400, 404, 422, 500),
        r"(?:invalid|incorrect|wrong|missing|expired) (?:\w+ )?api.?key",
        r"api.?key (?:is |was )?(?:not valid|not found|expired|invalid|missing|required)",
        r"(?:invalid|no|missing) (?:x-api-key|auth(?:entication|orization)? credentials?)",
        r"authentication (?:error|failed|fails)",
        r"organization has been disabled",
        r"authenticationerror",
        r"\blogin fail",
    ),
    _wording(
        FILTERED,
        (*_REFUSED, 500),
        r"(?:input|prompt|content|request) (?:was|is|has been) (?:flagged|blocked)\b",
        r"blocked by (?:the |our )?content",
        r"content (?:filtering|management|safety|moderation|usage) polic",
        r"violat\w+ .{0,30}(?:usage|content|safety) (?:guidelines|polic)",
        r"contentpolicyviolation",
        r"data_inspection_failed|inappropriate content",
        r"\bnew_sensitive\b",
    ),
    _wording(
        NO_SYSTEM_PROMPT,
        (*_REFUSED, 500),
        r"system[ _](?:role|prompt|message|instruction)s? (?:is |are )?not (?:supported|enabled)",
        r"role' does not support '(?:system|developer)'",
        r"(?:not|n't) support (?:the )?system (?:role|prompt|message|instruction)s?\b",
        r"developer instruction is not enabled",
    ),
    _wording(
        NO_PICTURES,
        (*_REFUSED, 500, 501),
        r"support (?:for )?(?:\w+ )?(?:image|vision)(?!s? (?:format|type|size|file))",
        r"(?:image|vision)(?:_url|s)?(?: input| content)?s? (?:is|are) not supported",
        r"at most 0 image",
        r"unknown variant `image_url`",
        r"required for image",
        r"not a (?:multimodal|vision) model",
    ),
    _wording(TOO_MANY_PICTURES, _REFUSED, r"at most \d+ image", r"too many images"),
    # Of a model that takes text alone: the same question without the file will do.
    _wording(
        REJECTED,
        (*_REFUSED, 500, 501),
        r"\b(?:images?|vision|audio|videos?|files?|pdfs?)\b.{0,40}not (?:supported|allowed)",
        r"(?:support|required for) (?:images?|vision|audio|videos?|files?)\b",
    ),
    _wording(
        CONFIGURATION,
        _REFUSED,
        # A limit of output that the model does not have; the conversation's length is another.
        r"max(?:imum|_completion|_output)?[ _]tokens[^.]{0,60}is too large.{0,80}"
        r"(?:completion|output) tokens",
        r"max_tokens\W{0,3}\d+ > \d+",
        r"max_(?:completion_)?tokens\b.{0,60}\bexceeds\b",
        r"unsupported (?:parameter|value)",
        r"unrecognized request argument",
        r"unknown (?:parameter|name \")",
        r"(?:parameter|argument|field)s? .{0,60}not (?:supported|permitted|allowed)",
        r"extra (?:inputs|fields) (?:are )?not permitted",
        r"does not support (?:the )?parameters?",
        r"unsupportedparamserror",
    ),
    _wording(
        TOO_LONG,
        (*_REFUSED, 500, 501, 502, 503),
        r"(?:prompt|input|request|message|conversation|context|messages)\b.{0,40}"
        r"\b(?:is|are|was) too (?:long|large|big)",
        r"prompt too long",
        r"max(?:imum)? (?:allowed )?(?:context|prompt|input|model|sequence) (?:length|size)",
        r"context (?:window|limit|length|size)",
        r"contextwindowexceeded",
        r"too many (?:input |prompt |total )?tokens",
        r"exceeds? the (?:model'?s? )?(?:maximum|max|limit)(?: allowed)?(?: number)?(?: of)?"
        r" (?:input |prompt )?tokens",
        r"token (?:count|limit)\b.{0,40}exceed",
        r"input (?:length|tokens?)\b.{0,80}(?:exceed|larger|longer|greater)",
        r"request (?:body )?exceeds the maximum size",
        r"range of input length should be",
        r"inputs`? tokens \+ `?max_new_tokens`? must be",
        r"longer than the maximum",
        r"context overflows?",
        r"string too long",
        r"reduce the length of (?:the|your) (?:messages|prompt|input)",
    ),
    _wording(
        NO_SUCH_MODEL,
        (*_REFUSED, 401, 500),
        r"models?\b.{0,160}(?:does not exist|not found|is not available|deprecated)",
        r"(?:no|not a|invalid|unknown|unsupported) (?:such )?(?:valid )?model\b",
        r"no endpoints found",
        r"no models? (?:is |are )?loaded",
        r"does not have access to model",
    ),
    _wording(
        WRONG_ADDRESS,
        (200, 400, 404, 405, 410),
        r"invalid url\b",
        r"unexpected endpoint or method",
        r"unrecognized request url",
        r"no route matched",
        r"(?:route|path|endpoint|page|url|resource|file) (?:was )?not found",
        r"^(?:not found|method not allowed)\.?$",
        r"api.version.{0,30}not supported|unsupported api.version",
    ),
    _wording(TURNED_AWAY, (403,), r"^error code: 1\d{3}$"),  # Cloudflare's own
    _wording(REGION, (400, 403), r"(?:location|country|region).{0,40}not supported"),
)
_MAX_TEXT = 4_000
"""Characters of the provider's text that are looked at."""

_OF_MESSAGES = ("messages", "input", "prompt", "contents")
"""What the fields are called that hold what people say; all others are the operator's choice."""


def kind_of(status: int | None, codes: Collection[str], params: Collection[str], text: str) -> Kind:
    """The kind of a failure, of an HTTP status, of identifiers in lower case, of the fields that
    the provider names, and of its sentences."""
    if status is not None and 300 <= status < 400:
        return WRONG_ADDRESS
    kind = _by_words(status, codes, text[:_MAX_TEXT])
    is_of_messages = any(param.startswith(_OF_MESSAGES) for param in params)
    if kind is CONFIGURATION and is_of_messages:
        return REJECTED
    if kind is not None:
        return kind
    if params and not is_of_messages and status in (400, 422, None):
        return CONFIGURATION
    return _by_status(status, codes, is_told=bool(codes or text))


def _by_words(status: int | None, codes: Collection[str], text: str) -> Kind | None:
    def says(wording: _Wording) -> bool:
        counts = status is None or status in wording.statuses
        return counts and wording.pattern.search(text) is not None

    if says(_OVER_THE_RATE):
        return OVER_THE_RATE
    for code in codes:
        if code in _DECISIVE:
            return _DECISIVE[code]
    return next((wording.kind for wording in _WORDINGS if says(wording)), None)


def _by_status(status: int | None, codes: Collection[str], *, is_told: bool) -> Kind:
    if status is None:
        return next((_SOFT[code] for code in codes if code in _SOFT), UNAVAILABLE)
    if status in (404, 405):
        return NO_SUCH_MODEL if is_told and status == 404 else WRONG_ADDRESS
    if status in _STATUSES:
        return _STATUSES[status]
    return REJECTED if 400 <= status < 500 else UNAVAILABLE
