"""No token gets into a line of the log."""

from __future__ import annotations

import logging

import pytest
import structlog
from colloquy_slack import logs

SECRETS = (
    "xoxb-1234-5678-abcDEF",
    "xoxe.xoxb-1-Mi0yLTEyMzQ",
    "xapp-1-A012-34-abcdef",
    "colloquy_AbC-dEf_123",
    "Bearer abc.def",
    "wss://wss-primary.slack.com/link/?ticket=abc.def-1&app_id=A1",
    "https://example.com/slack/oauth_redirect?code=1.2.abc.def&state=abc.def-2",
)


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("log_format", ["console", "json"])
def test_secrets_are_hidden(
    secret: str, log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    handlers = root.handlers[:]
    logs.configure("console" if log_format == "console" else "json")
    try:
        structlog.get_logger().info("event", said=f"it is {secret}!", nested={"a": [secret]})
        logging.getLogger("slack_sdk").error("failed with %s", secret)
        written = capsys.readouterr().err
    finally:
        root.handlers[:] = handlers
        structlog.reset_defaults()
    assert "event" in written
    assert "failed with" in written
    assert secret not in written
    assert "abc.def" not in written
