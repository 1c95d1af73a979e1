"""Formats errors as one line that says what to do."""

from __future__ import annotations

from colloquy.budget_text import in_time
from colloquy.errors import (
    ColloquyError,
    InvalidArgument,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from colloquy.terminal.formatting import clean_line

_CERTIFICATE = "and with --cert-file and --key-file if it asks for a certificate"


def format_error(error: Exception, address: str) -> str:
    """Return what went wrong with the server at `address`, or on this machine."""
    if isinstance(error, ColloquyError):
        return clean_line(_of_server(error, address))
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return clean_line(f"{name}{error.strerror or error}")
    return clean_line(f"something unexpected happened: {type(error).__name__}: {error}")


def _of_server(error: ColloquyError, address: str) -> str:
    if isinstance(error, Unavailable) and "WRONG_VERSION_NUMBER" in error.message:
        return f"the server at {address} does not speak TLS: leave --tls, https:// and CAs out"
    if isinstance(error, Unavailable) and "CERTIFICATE_VERIFY_FAILED" in error.message:
        return f"the certificate of the server at {address} is not by a CA that is trusted here"
    if isinstance(error, Unavailable):
        # gRPC's own words for "nobody listens" are long and say less.
        known = "Connection refused" in error.message
        detail = "" if known else f" ({error.message})"
        # Whoever expects TLS, or a certificate, hangs up at once; so does a server that is killed.
        wants_tls = "last error" in error.message and "Socket closed" in error.message
        hint = f", https://{address} if that one has TLS, {_CERTIFICATE}" if wants_tls else ""
        return (
            f"no server answers at {address}{detail}: start one with `colloquy serve --dev`, or "
            f"name another with --address or CONVERSATION_ADDRESS{hint}"
        )
    if isinstance(error, Unauthenticated):
        return (
            f"the server at {address} does not accept the key ({error.message}): set "
            "CONVERSATION_API_KEY (ADMIN_API_KEY for admin), or remove a stale one; or sign in by "
            "`colloquy login`"
        )
    if isinstance(error, Unimplemented):
        return f"the server at {address} cannot do this yet ({error.message})"
    if isinstance(error, ResourceExhausted) and error.reason == "BUDGET_EXCEEDED":
        when = "" if error.retry_after is None else f" That is {in_time(error.retry_after)}."
        return (
            f"{error.message}{when} `colloquy usage` shows what was used; whoever runs the server "
            "can raise the limit"
        )
    # The message names the first bad field itself.
    others = [f"{name}: {what}" for name, what in error.fields.items() if what not in error.message]
    return "; ".join([error.message, *others])


def file_error(name: str, error: InvalidArgument) -> ColloquyError:
    """Return why a file was refused, with its name instead of the request's fields."""
    return ColloquyError(f"{name}: {'; '.join(error.fields.values()) or error.message}")
