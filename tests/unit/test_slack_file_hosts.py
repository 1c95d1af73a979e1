"""Where the bot shows its token to fetch a file."""

from __future__ import annotations

import pytest
from colloquy_slack.serving.attachments import _may_get_token

API = "https://slack.com/api/"


@pytest.mark.parametrize(
    "url",
    [
        "https://files.slack.com/files-pri/T1-F1/plan.pdf",
        "https://slack.com/files/x",
        "https://FILES.SLACK.COM/x",
    ],
)
def test_slacks_hosts_are_shown_it(url: str) -> None:
    assert _may_get_token(url, API)


@pytest.mark.parametrize(
    "url",
    [
        "http://files.slack.com/x",
        "https://evil.example/x",
        "https://evil.example/files.slack.com/x",
        "https://evil.example/.slack.com",
        "https://evil.example?.slack.com",
        "https://evil.example#.slack.com",
        "https://files.slack.com@evil.example/x",
        "https://slack.com.evil.example/x",
        "https://evilslack.com/x",
        "https://slack.com.",
        "ftp://files.slack.com/x",
        "//files.slack.com/x",
        "",
    ],
)
def test_the_token_is_shown_to_slack_alone(url: str) -> None:
    assert not _may_get_token(url, API)


def test_where_the_api_is_files_may_be_too() -> None:
    """For tests and for proxies before Slack: exactly that host and port."""
    api = "http://127.0.0.1:4000/api/"
    assert _may_get_token("http://127.0.0.1:4000/files/x", api)
    assert not _may_get_token("http://127.0.0.1:4001/files/x", api)
