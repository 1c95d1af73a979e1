"""Which kind of failure a provider tells of: the bodies that they send, as far as is known."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from colloquy_server.providers.error_kinds import (
    AUTHENTICATION,
    CONFIGURATION,
    FILTERED,
    NO_SUCH_MODEL,
    OVER_THE_RATE,
    QUOTA,
    RATE_LIMITED,
    REGION,
    REJECTED,
    TIMEOUT,
    TOO_LONG,
    UNAVAILABLE,
    WRONG_ADDRESS,
    Kind,
)
from colloquy_server.providers.errors import ProviderError, from_error_object, from_status


def openai(message: str, code: object = None, type_: object = None, param: object = None) -> Any:
    return {"error": {"message": message, "type": type_, "param": param, "code": code}}


def anthropic(message: str, type_: str = "invalid_request_error") -> Any:
    error = {"type": type_, "message": message}
    return {"type": "error", "error": error, "request_id": "req_011C"}


def google(code: int, status: str, message: str, *details: Any) -> Any:
    error = {"code": code, "status": status, "message": message, "details": list(details)}
    return [{"error": error}]


def bare(message: str, **fields: Any) -> Any:
    return {"object": "error", "message": message, **fields}


def detail(type_: str, *loc: Any, msg: str = "") -> Any:
    return {"detail": [{"type": type_, "loc": ["body", *loc], "msg": msg, "input": "secret"}]}


INVALID = "invalid_request_error"

KNOWN: list[tuple[str, int, Any, Kind]] = [
    # OpenAI
    ("OpenAI key", 401, openai("Incorrect API key provided: sk-1", "invalid_api_key", INVALID), AUTHENTICATION),
    ("OpenAI quota", 429, openai("You exceeded your current quota, please check your plan and billing details.", "insufficient_quota", "insufficient_quota"), QUOTA),
    ("OpenAI rate", 429, openai("Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Used 29000, Requested 5000. Please try again in 8s.", "rate_limit_exceeded", "tokens"), RATE_LIMITED),
    ("OpenAI too large at once", 429, openai("Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Requested 50000. The input or output tokens must be reduced in order to run successfully.", "rate_limit_exceeded", "tokens"), OVER_THE_RATE),
    ("OpenAI length", 400, openai("This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens.", "context_length_exceeded", INVALID, "messages"), TOO_LONG),
    ("OpenAI string", 400, openai("Invalid 'messages[0].content': string too long. Expected a string with maximum length 10485760.", "string_above_max_length", INVALID, "messages[0].content"), TOO_LONG),
    ("OpenAI parameter", 400, openai("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", "unsupported_parameter", INVALID, "max_tokens"), CONFIGURATION),
    ("OpenAI value", 400, openai("Unsupported value: 'temperature' does not support 0.3 with this model. Only the default (1) value is supported.", "unsupported_value", INVALID, "temperature"), CONFIGURATION),
    ("OpenAI value of a message", 400, openai("Unsupported value: 'messages[0].role' does not support 'system' with this model.", "unsupported_value", INVALID, "messages[0].role"), REJECTED),
    ("OpenAI argument", 400, openai("Unrecognized request argument supplied: repeat_penalty", None, INVALID), CONFIGURATION),
    ("OpenAI output", 400, openai("max_tokens is too large: 32000. This model supports at most 16384 completion tokens, whereas you provided 32000.", "invalid_value", INVALID, "max_tokens"), CONFIGURATION),
    ("OpenAI model", 404, openai("The model `gpt-9` does not exist or you do not have access to it.", "model_not_found", INVALID), NO_SUCH_MODEL),
    ("OpenAI project", 403, openai("Project `proj_x` does not have access to model `gpt-4o`", "model_not_found", INVALID), NO_SUCH_MODEL),
    ("OpenAI address", 404, openai("Invalid URL (POST /v1/v1/chat/completions)", None, INVALID), WRONG_ADDRESS),
    ("OpenAI country", 403, openai("Country, region, or territory not supported", "unsupported_country_region_territory", "request_forbidden"), REGION),
    ("OpenAI picture", 400, openai("Invalid image data.", "invalid_image", INVALID, "messages[0].content[1].image_url"), REJECTED),
    ("OpenAI overloaded", 503, openai("The engine is currently overloaded, please try again later", None, "server_error"), UNAVAILABLE),
    # Azure
    ("Azure key", 401, openai("Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an active subscription.", "401"), AUTHENTICATION),
    ("Azure deployment", 404, openai("The API deployment for this resource does not exist.", "DeploymentNotFound"), NO_SUCH_MODEL),
    ("Azure address", 404, openai("Resource not found", "404"), WRONG_ADDRESS),
    ("Azure filter", 400, {"error": {"message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.", "type": None, "param": "prompt", "code": "content_filter", "status": 400, "innererror": {"code": "ResponsibleAIPolicyViolation"}}}, FILTERED),
    ("Azure rate", 429, openai("Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have exceeded token rate limit of your current OpenAI S0 pricing tier. Please retry after 7 seconds.", "429"), RATE_LIMITED),
    ("Azure volume", 403, openai("Out of call volume quota. Quota will be replenished in 2.12:00:00", "403"), QUOTA),
    # Anthropic
    ("Anthropic credit", 400, anthropic("Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."), QUOTA),
    ("Anthropic credit by its other endpoint", 400, openai("Your credit balance is too low to access the Anthropic API.", INVALID, INVALID), QUOTA),
    ("Anthropic limit", 400, anthropic("You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."), QUOTA),
    ("Anthropic key", 401, anthropic("invalid x-api-key", "authentication_error"), AUTHENTICATION),
    ("Anthropic disabled", 400, anthropic("This organization has been disabled."), AUTHENTICATION),
    ("Anthropic length", 400, anthropic("prompt is too long: 205000 tokens > 200000 maximum"), TOO_LONG),
    ("Anthropic length with output", 400, anthropic("input length and `max_tokens` exceed context limit: 190000 + 21333 > 200000, decrease input length or `max_tokens` and try again"), TOO_LONG),
    ("Anthropic size", 413, anthropic("Request exceeds the maximum size", "request_too_large"), TOO_LONG),
    ("Anthropic output", 400, anthropic("max_tokens: 64000 > 8192, which is the maximum allowed number of output tokens for claude-x"), CONFIGURATION),
    ("Anthropic filter", 400, anthropic("Output blocked by content filtering policy"), FILTERED),
    ("Anthropic model", 404, anthropic("model: claude-9", "not_found_error"), NO_SUCH_MODEL),
    ("Anthropic address", 404, anthropic("Not Found", "not_found_error"), WRONG_ADDRESS),
    ("Anthropic rate", 429, anthropic("This request would exceed the rate limit for your organization of 30,000 input tokens per minute.", "rate_limit_error"), RATE_LIMITED),
    ("Anthropic overloaded", 529, anthropic("Overloaded", "overloaded_error"), UNAVAILABLE),
    ("Anthropic empty text", 400, anthropic("messages: text content blocks must be non-empty"), REJECTED),
    # Google, whose bodies are lists of one
    ("Google key", 400, google(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}), AUTHENTICATION),
    ("Google key by its words", 400, [{"error": {"code": 400, "message": "API key expired. Please renew the API key.", "status": "INVALID_ARGUMENT"}}], AUTHENTICATION),
    ("Google leaked key", 403, google(403, "PERMISSION_DENIED", "Your API key was reported as leaked. Please use another API key."), AUTHENTICATION),
    ("Google rate", 429, google(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan and billing details. For more information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits. Please retry in 34.07s.", {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}), RATE_LIMITED),
    ("Google length", 400, google(400, "INVALID_ARGUMENT", "The input token count (1100000) exceeds the maximum number of tokens allowed (1048576)."), TOO_LONG),
    ("Google country", 400, google(400, "FAILED_PRECONDITION", "User location is not supported for the API use."), REGION),
    ("Google field", 400, google(400, "INVALID_ARGUMENT", 'Invalid JSON payload received. Unknown name "repeat_penalty": Cannot find field.', {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"description": 'Unknown name "repeat_penalty"'}]}), CONFIGURATION),
    ("Google model", 404, google(404, "NOT_FOUND", "models/gemini-9 is not found for API version v1main, or is not supported for generateContent."), NO_SUCH_MODEL),
    ("Google billing", 403, google(403, "PERMISSION_DENIED", "This API method requires billing to be enabled.", {"reason": "BILLING_DISABLED"}), QUOTA),
    ("Google overloaded", 503, google(503, "UNAVAILABLE", "The model is overloaded. Please try again later."), UNAVAILABLE),
    ("Google deadline", 504, google(504, "DEADLINE_EXCEEDED", "Deadline expired."), TIMEOUT),
    # Mistral
    ("Mistral key", 401, {"detail": "Unauthorized"}, AUTHENTICATION),
    ("Mistral field", 422, detail("extra_forbidden", "max_completion_tokens", msg="Extra inputs are not permitted"), CONFIGURATION),
    ("Mistral field in a message", 422, bare({"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]}), CONFIGURATION),  # type: ignore[arg-type]
    ("Mistral roles", 400, bare("Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant", type="invalid_request_message_order", code="3230"), REJECTED),
    ("Mistral model", 400, bare("Invalid model: mistral-9", type="invalid_model", param=None, code="1500"), NO_SUCH_MODEL),
    ("Mistral length", 400, bare("Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length", type="invalid_request_prompt", code="3051"), TOO_LONG),
    ("Mistral capacity", 429, bare("Service tier capacity exceeded for this model.", type="service_tier_capacity_exceeded", code="3505"), RATE_LIMITED),
    ("Mistral address", 404, {"message": "no Route matched with those values"}, WRONG_ADDRESS),
    # OpenRouter
    ("OpenRouter credit", 402, {"error": {"code": 402, "message": "This request requires more credits, or fewer max_tokens."}}, QUOTA),
    ("OpenRouter flagged", 403, {"error": {"code": 403, "message": "x requires moderation on y. Your input was flagged for harassment.", "metadata": {"reasons": ["harassment"], "flagged_input": "secret"}}}, FILTERED),
    ("OpenRouter flagged without its words", 403, {"error": {"code": 403, "message": "Forbidden", "metadata": {"flagged_input": "secret"}}}, FILTERED),
    ("OpenRouter model", 400, {"error": {"code": 400, "message": "x/y is not a valid model ID"}}, NO_SUCH_MODEL),
    ("OpenRouter endpoints", 404, {"error": {"code": 404, "message": "No endpoints found matching your data policy."}}, NO_SUCH_MODEL),
    ("OpenRouter length", 400, {"error": {"code": 400, "message": "This endpoint's maximum context length is 131072 tokens. However, you requested about 200000 tokens."}}, TOO_LONG),
    ("OpenRouter passing on", 400, {"error": {"code": 400, "message": "Provider returned error", "metadata": {"raw": json.dumps(anthropic("prompt is too long: 205000 tokens > 200000 maximum")), "provider_name": "Anthropic"}}}, TOO_LONG),
    ("OpenRouter upstream", 429, {"error": {"code": 429, "message": "Provider returned error", "metadata": {"raw": "x is temporarily rate-limited upstream. Please retry shortly."}}}, RATE_LIMITED),
    # Groq
    ("Groq rate by 413", 413, openai("Request too large for model `x` in organization `org_x` service tier `on_demand` on tokens per minute (TPM): Limit 12000, Requested 15000, please reduce your message size and try again.", "rate_limit_exceeded", "tokens"), OVER_THE_RATE),
    ("Groq rate by 413 in short", 413, openai("Rate limit reached", "rate_limit_exceeded", "tokens"), RATE_LIMITED),
    ("Groq capacity", 498, openai("capacity exceeded"), UNAVAILABLE),
    ("Groq model", 400, openai("The model `x` has been decommissioned and is no longer supported.", "model_decommissioned", INVALID), NO_SUCH_MODEL),
    ("Groq spending", 400, openai("API access is blocked: the organization reached its spend limit.", "blocked_api_access", INVALID), QUOTA),
    # xAI, whose codes are sentences
    ("xAI key", 400, {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: xa***key."}, AUTHENTICATION),
    ("xAI credit", 403, {"code": "The caller does not have permission to execute the specified operation", "error": "Your newly created team doesn't have any credits or licenses yet."}, QUOTA),
    ("xAI spent", 429, {"code": "Some resource has been exhausted", "error": "Your team x has either used all available credits or reached its monthly spending limit."}, QUOTA),
    ("xAI guidelines", 403, {"code": "The caller does not have permission", "error": "Content violates usage guidelines."}, FILTERED),
    # Others in the cloud
    ("DeepSeek credit", 402, openai("Insufficient Balance", "invalid_request_error", "unknown_error"), QUOTA),
    ("Fireworks", 412, openai("Account x is suspended, possibly due to reaching the monthly spending limit or failure to pay past invoices."), QUOTA),
    ("Moonshot quota", 429, openai("Your account is suspended due to insufficient balance", None, "exceeded_current_quota_error"), QUOTA),
    ("Moonshot overloaded", 429, openai("The engine is currently overloaded", None, "engine_overloaded_error"), RATE_LIMITED),
    ("Qwen filter", 400, openai("Input data may contain inappropriate content.", "data_inspection_failed", "data_inspection_failed"), FILTERED),
    ("Qwen length", 400, openai("Range of input length should be [1, 30720]", "invalid_parameter_error", INVALID), TOO_LONG),
    ("Qwen credit", 400, openai("Access denied, please make sure your account is in good standing.", "Arrearage", "Arrearage"), QUOTA),
    ("Together length", 422, openai("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193. Given: 9000 `inputs` tokens", None, INVALID), TOO_LONG),
    ("Zhipu credit", 429, {"error": {"code": "1113", "message": "余额不足"}}, QUOTA),
    ("Cloudflare", 401, {"success": False, "errors": [{"code": 10000, "message": "Authentication error"}]}, AUTHENTICATION),
    ("Bedrock", 400, {"message": "Input is too long for requested model.", "__type": "ValidationException"}, TOO_LONG),
    # Servers of one's own
    ("vLLM length", 400, bare("This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4000 in the messages, 1000 in the completion).", type="BadRequestError", param=None, code=400), TOO_LONG),
    ("vLLM length, newer", 400, openai("'max_tokens' or 'max_completion_tokens' is too large: 512. This model's maximum context length is 4096 tokens and your request has 4000 input tokens (512 > 4096 - 4000).", 400, "BadRequestError"), TOO_LONG),
    ("vLLM prompt", 400, openai("The decoder prompt (length 5000) is longer than the maximum model length of 4096.", 400, "BadRequestError", "input_tokens"), TOO_LONG),
    ("vLLM model", 404, bare("The model `x` does not exist.", type="NotFoundError", code=404), NO_SUCH_MODEL),
    ("vLLM address", 404, {"detail": "Not Found"}, WRONG_ADDRESS),
    ("vLLM method", 405, {"detail": "Method Not Allowed"}, WRONG_ADDRESS),
    ("vLLM key", 401, {"error": "Unauthorized"}, AUTHENTICATION),
    ("vLLM roles", 400, openai("Conversation roles must alternate user/assistant/user/assistant/...", 400, "BadRequestError"), REJECTED),
    ("llama.cpp length", 400, openai("the request exceeds the available context size. try increasing the context size or enable context shift", 400, "exceed_context_size_error"), TOO_LONG),
    ("llama.cpp loading", 503, openai("Loading model", 503, "unavailable_error"), UNAVAILABLE),
    ("llama.cpp address", 404, openai("File Not Found", 404, "not_found_error"), WRONG_ADDRESS),
    ("Ollama model", 404, openai('model "x" not found, try pulling it first', None, "api_error"), NO_SUCH_MODEL),
    ("Ollama model, native", 404, {"error": "model 'x' not found"}, NO_SUCH_MODEL),
    ("Ollama address", 404, None, WRONG_ADDRESS),
    ("Ollama length", 500, {"error": "the input length exceeds the context length"}, TOO_LONG),
    ("Ollama memory", 500, openai("model requires more system memory (5.5 GiB) than is available (3.1 GiB)", None, "api_error"), UNAVAILABLE),
    ("LM Studio length", 400, {"error": "Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens."}, TOO_LONG),
    ("LM Studio address", 200, {"error": "Unexpected endpoint or method. (POST /chat/completions)"}, WRONG_ADDRESS),
    ("LM Studio model", 404, openai("No models loaded. Please load a model in the developer page.", "model_not_found", INVALID), NO_SUCH_MODEL),
    # LiteLLM, which says it in words
    ("LiteLLM length", 400, openai("litellm.ContextWindowExceededError: litellm.BadRequestError: AnthropicException - x", "400"), TOO_LONG),
    ("LiteLLM key", 401, openai("Authentication Error, Invalid proxy server token passed", "401", "auth_error"), AUTHENTICATION),
    ("LiteLLM key as 400", 400, openai("Authentication Error, LiteLLM Virtual Key expected.", "400", "auth_error"), AUTHENTICATION),
    ("LiteLLM filter", 400, openai("litellm.BadRequestError: litellm.ContentPolicyViolationError: x", "400"), FILTERED),
    ("LiteLLM budget", 400, openai("Budget has been exceeded! Current cost: 10.2, Max budget: 10.0", "400", "budget_exceeded"), QUOTA),
    ("LiteLLM parameter", 400, openai("litellm.UnsupportedParamsError: groq does not support parameters: ['x']", "400"), CONFIGURATION),
    ("LiteLLM model", 400, openai("/chat/completions: Invalid model name passed in model=x. Call `/v1/models` to view available models for your key.", "400"), NO_SUCH_MODEL),
    ("LiteLLM team", 401, openai("team not allowed to access model. This team can only access models=['y']", "401", "team_model_access_denied", "model"), NO_SUCH_MODEL),
    ("LiteLLM and Anthropic's credit", 400, openai('litellm.BadRequestError: AnthropicException - {"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}', "400"), QUOTA),
    ("LiteLLM and OpenAI's quota", 429, openai("litellm.RateLimitError: RateLimitError: OpenAIException - You exceeded your current quota, please check your plan and billing details. For more information on this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.", "429", "throttling_error"), QUOTA),
    # Nothing that says more than its status
    ("a page", 503, None, UNAVAILABLE),
    ("forbidden", 403, {}, AUTHENTICATION),
    ("a body of another shape", 422, [1, [2, {"error": 3}]], REJECTED),
    ("too large", 413, None, TOO_LONG),
]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body", "kind"), [row[1:] for row in KNOWN], ids=[row[0] for row in KNOWN]
)
def test_each_providers_failure_is_of_its_kind(status: int, body: Any, kind: Kind) -> None:
    error = from_status(status, body, {})
    assert error.message == kind.message
    assert error.reason == kind.reason
    assert error.is_too_long == kind.is_too_long
    assert error.is_about_content == kind.is_about_content
    assert "secret" not in f"{error} {error.log_fields()}"
    assert "sk-" not in f"{error.log_fields()}"


@pytest.mark.parametrize(("status", "body", "kind"), [row[1:] for row in KNOWN if row[1] in (400, 429)],
                         ids=[row[0] for row in KNOWN if row[1] in (400, 429)])  # fmt: skip
def test_the_same_in_a_stream_is_the_same(status: int, body: Any, kind: Kind) -> None:
    """There the status is a code, when it is said at all."""
    whole = {"error": body, "status_code": status}
    assert from_error_object(whole).message == kind.message


def test_a_failure_names_itself_to_the_operator_without_any_text() -> None:
    body = openai("secret", "unsupported_parameter", INVALID, "max_tokens")
    assert from_status(400, body, {"x-request-id": "req_1"}).log_fields() == {
        "reason": "PROVIDER_REJECTED",
        "detail": "HTTP 400 unsupported_parameter invalid_request_error",
        "status": 400,
        "code": "unsupported_parameter invalid_request_error",
        "param": "max_tokens",
        "request_id": "req_1",
    }
    assert from_status(400, anthropic("secret"), {}).request_id == "req_011C"
    assert from_status(422, detail("missing", "messages", 0, "content"), {}).params == (
        "messages.0.content",
    )
    hidden = openai("x", "sk-secret1", "what the secret was", "Was sagt secret?")
    assert from_status(400, hidden, {"x-request-id": "sk-secret1"}).log_fields() == {
        "reason": "PROVIDER_REJECTED",
        "detail": "HTTP 400",
        "status": 400,
    }


@pytest.mark.parametrize(
    "name", ["x-request-id", "request-id", "apim-request-id", "x-litellm-call-id", "cf-ray"]
)
def test_a_requests_id_is_found_in_the_header_that_the_provider_has_for_it(name: str) -> None:
    assert from_status(500, None, {name: "abc-1"}).request_id == "abc-1"


def test_a_body_that_is_deep_or_wide_is_read_as_far_as_that_makes_sense() -> None:
    deep: Any = {"message": "prompt is too long"}
    for _ in range(100_000):
        deep = {"error": deep}
    assert from_status(400, deep, {}).reason == "PROVIDER_REJECTED"
    wide = [{"message": "x" * 100}] * 100_000
    assert from_status(400, wide, {}).reason == "PROVIDER_REJECTED"
    assert from_status(400, openai("{" * 70_000), {}).reason == "PROVIDER_REJECTED"
    assert from_status(400, openai("x {" + "[" * 60_000), {}).reason == "PROVIDER_REJECTED"


# Hints of when to come back.


def limited(body: Any = None, status: int = 429, **headers: str) -> ProviderError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return from_status(status, body, named)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"x-ms-retry-after-ms": "250"}, 0.25),
        ({"retry-after": "12s"}, 12),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"x-ratelimit-reset-requests": "2m59.56s"}, 179.56),
        ({"x-ratelimit-reset-tokens": "120ms"}, 0.12),
        ({"x-ratelimit-reset-tokens": "1h"}, 3600),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, 360),
        (
            {
                "x-ratelimit-reset-requests": "1h",
                "x-ratelimit-remaining-requests": "99",
                "x-ratelimit-reset-tokens": "6s",
                "x-ratelimit-remaining-tokens": "0",
            },
            6,
        ),
        ({"x-ratelimit-reset": "30"}, 30),
        ({"ratelimit-reset": "31"}, 31),
        ({"retry-after": "3", "x-ratelimit-reset-requests": "1h"}, 3),
        ({"X-RateLimit-Reset-Requests": "4s"}, 4),
        ({}, None),
    ],
)
def test_hints_in_headers_are_read(headers: dict[str, str], seconds: float | None) -> None:
    assert from_status(429, None, headers).retry_after == pytest.approx(seconds)


def test_hints_that_are_times_of_the_calendar_are_read() -> None:
    then = datetime.now(UTC) + timedelta(seconds=100)
    epoch = then.timestamp()
    for hints in (
        {"retry-after": format_datetime(then, usegmt=True)},
        {"x-ratelimit-reset": f"{epoch:.0f}"},
        {"x-ratelimit-reset": f"{epoch * 1000:.0f}"},
        {"anthropic-ratelimit-tokens-reset": then.isoformat().replace("+00:00", "Z")},
    ):
        assert from_status(429, None, hints).retry_after == pytest.approx(100, abs=30), hints
    behind = {
        "error": {
            "code": 429,
            "metadata": {"headers": {"X-RateLimit-Reset": f"{epoch * 1000:.0f}"}},
        }
    }
    assert from_error_object(behind).retry_after == pytest.approx(100, abs=30)


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (google(429, "RESOURCE_EXHAUSTED", "x", {"retryDelay": "34s"}), 34),
        (google(429, "RESOURCE_EXHAUSTED", "x", {"retryDelay": "34.074824224s"}), 34.074824224),
        (openai("Please try again in 1.2s. Visit https://x"), 1.2),
        (openai("Please try again in 20ms."), 0.02),
        (openai("Please try again in 7m12s."), 432),
        (openai("Please try again in 6m0s."), 360),
        (openai("Please retry after 7 seconds. To increase"), 7),
        (openai("No deployments available for selected model, Try again in 60 seconds."), 60),
        (openai("Please wait 2 minutes"), 120),
        (openai("Please retry in 34.07s."), 34.07),
        ({"error": {"message": "x", "retry_after": 3}}, 3),
        (openai("Limit 30000, used 29000. Try again later, or at 5000 a day."), None),
    ],
)
def test_hints_in_bodies_are_read(body: Any, seconds: float | None) -> None:
    assert limited(body).retry_after == pytest.approx(seconds)
    inner = body[0] if isinstance(body, list) else body
    assert from_error_object(inner).retry_after == pytest.approx(seconds)


def test_resets_of_limits_count_only_when_a_limit_was_met() -> None:
    """OpenAI sends them with every answer."""
    assert limited(status=500, x_ratelimit_reset_requests="1h").retry_after is None
    assert limited(status=500, retry_after="3").retry_after == 3
