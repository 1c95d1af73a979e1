"""No token gets into a line of the log, and each line is whole."""

from __future__ import annotations

import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest
import structlog
from colloquy_slack import logs

from tests.plain_logs import plain_logs

SECRETS = (
    "xoxb-1234-5678-abcDEF",  # pragma: allowlist secret
    "xoxe.xoxb-1-Mi0yLTEyMzQ",  # pragma: allowlist secret
    "xapp-1-A012-34-abcdef",
    "colloquy_AbC-dEf_123",
    "Bearer abc.def",
    "wss://wss-primary.slack.com/link/?ticket=abc.def-1&app_id=A1",
    "https://example.com/slack/oauth_redirect?code=1.2.abc.def&state=abc.def-2",
)


@pytest.fixture
def restored() -> Iterator[None]:
    """Leaves the logging of the process as it was."""
    root = logging.getLogger()
    handlers, raises = root.handlers[:], logging.raiseExceptions
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning
    yield
    sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = hooks
    root.handlers[:], logging.raiseExceptions = handlers, raises
    plain_logs()


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("log_format", ["console", "json"])
@pytest.mark.usefixtures("restored")
def test_secrets_are_hidden(
    secret: str, log_format: str, capfd: pytest.CaptureFixture[str]
) -> None:
    logs.configure("console" if log_format == "console" else "json")
    structlog.get_logger().info("event", said=f"it is {secret}!", nested={"a": [secret]})
    logging.getLogger("slack_sdk").error("failed with %s", secret)
    logging.getLogger("slack_sdk").error(f"failed with {secret}")
    logs.drain()
    written = capfd.readouterr().err
    assert "event" in written
    assert "failed with …" in written or "failed with \\u2026" in written
    assert secret not in written
    assert "abc.def" not in written
    if log_format == "json":
        assert [json.loads(line)["event"] for line in written.splitlines()] == [
            *("event", "library log", "library log")
        ]
