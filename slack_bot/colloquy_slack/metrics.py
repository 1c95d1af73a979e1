"""All that the bot counts and measures: one table, from which docs/metrics.md is made.

A label has few values: no workspaces, channels or people, and nothing that anybody says.
"""

from __future__ import annotations

from colloquy.operations.metrics import Instrument, Kind

METHOD = "colloquy.slack.method"
EVENT = "colloquy.slack.event"
ERROR = "error.type"

LABELS = {
    METHOD: "the method of Slack's Web API: `chat.update` is an edit, `chat.appendStream` a piece"
    " of a native stream",
    ERROR: "`rate_limited` (status 429), `refused`, `token_rejected`, or `in_doubt` (no answer, or"
    " Slack's own trouble); absent when it was done",
    EVENT: "the type of an event that the bot listens to, `action` (a button), `command`, or"
    " `other`",
}

# Those that the conventions advise for clients of HTTP; and what Slack's Retry-After mostly says.
_CALL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_RETRY_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120)

INSTRUMENTS = (
    Instrument(
        "colloquy.slack.call.duration",
        Kind.HISTOGRAM,
        "s",
        "How long calls of Slack's Web API took; their count is that of the calls, of edits too.",
        (METHOD, ERROR),
        _CALL_SECONDS,
    ),
    Instrument(
        "colloquy.slack.rate_limit.wait",
        Kind.HISTOGRAM,
        "s",
        "For how long Slack said to wait, each time that it said 429.",
        (METHOD,),
        _RETRY_SECONDS,
    ),
    Instrument(
        "colloquy.slack.event.received",
        Kind.COUNTER,
        "{event}",
        "Events, buttons and commands that came from Slack; what it delivers twice counts twice.",
        (EVENT,),
    ),
    Instrument(
        "colloquy.slack.workspaces",
        Kind.GAUGE,
        "{workspace}",
        "Workspaces that this process serves.",
    ),
    Instrument(
        "colloquy.slack.request.live",
        Kind.GAUGE,
        "{request}",
        "Requests that this process answers.",
    ),
    Instrument(
        "colloquy.slack.request.unfinished",
        Kind.GAUGE,
        "{request}",
        "Requests that are not answered to their end, in the whole database: every process says the"
        " same, so take the largest, not the sum.",
    ),
    Instrument(
        "colloquy.slack.request.oldest",
        Kind.GAUGE,
        "s",
        "How long ago the oldest of those came in, in the whole database; 0 when there is none.",
    ),
    Instrument(
        "colloquy.log.lost_lines",
        Kind.COUNTER,
        "{line}",
        "Lines of the log that nobody took.",
    ),
)
