"""All that the server counts and measures: one table, from which docs/metrics.md is made.

Names and labels are those of OpenTelemetry's semantic conventions where these have one, and begin
with `colloquy.` where they do not. A label has few values: no accounts, people or conversations,
and nothing that anybody says.
"""

from __future__ import annotations

from colloquy.operations.metrics import Instrument, Kind

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
MODEL = "gen_ai.request.model"
TOKEN = "gen_ai.token.type"  # noqa: S105
ERROR = "error.type"
SYSTEM = "rpc.system.name"
METHOD = "rpc.method"
STATUS = "rpc.response.status_code"
POOL = "db.client.connection.pool.name"
STATE = "colloquy.reply.state"
RETRIED = "colloquy.retried"
CAUSE = "colloquy.lease.cause"
WATCHED = "colloquy.watched"

LABELS = {
    OPERATION: "always `chat`",
    PROVIDER: "the provider, by its id in the catalogue",
    MODEL: "the model, by its id in the catalogue",
    TOKEN: "`input`, `output`; of replies also `cached`, the part of `input` that the provider"
    " still had",
    ERROR: "what went wrong: an `ErrorReason`, a status, or the name of an exception; absent when"
    " nothing did",
    SYSTEM: "`grpc` (gRPC-Web too), `connectrpc` or `http`",
    METHOD: "the full name of the method",
    STATUS: "the status that the caller got",
    POOL: "what waited: `read`, `write`, or `write_first`, which renews, saves and ends replies",
    STATE: "`completed`, `failed` or `cancelled`",
    RETRIED: "`true` when the provider was asked again, `false` when the reply was given up",
    CAUSE: "`expired`: it was not renewed in time; `fenced`: another process, or a cancel or"
    " deletion, took it; `released`: its owner shut down",
    WATCHED: "`conversation`, or `account` for all of its conversations",
}

# Buckets as the conventions advise, in seconds and in tokens.
_CALL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_REQUEST_SECONDS = (0.01, *(0.02 * 2**n for n in range(13)))
_FIRST_SECONDS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1, 2.5, 5, 7.5, 10),
)
_TOKENS = tuple(4**n for n in range(12))
_WAIT_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
_ATTEMPTS = (1, 2, 3, 4, 5, 10)

INSTRUMENTS = (
    # Calls of the API.
    Instrument(
        "rpc.server.call.duration",
        Kind.HISTOGRAM,
        "s",
        "How long calls took, streams from their beginning to their end.",
        (SYSTEM, METHOD, STATUS, ERROR),
        _CALL_SECONDS,
    ),
    Instrument(
        "colloquy.call.active",
        Kind.GAUGE,
        "{call}",
        "Calls that are being served, open streams among them.",
        (SYSTEM, METHOD),
    ),
    Instrument(
        "colloquy.watcher.open",
        Kind.GAUGE,
        "{watcher}",
        "Those who follow a conversation, or all of an account, in this process.",
        (WATCHED,),
    ),
    # Replies.
    Instrument(
        "colloquy.reply.live", Kind.GAUGE, "{reply}", "Replies that this process generates."
    ),
    Instrument(
        "colloquy.reply.limit",
        Kind.GAUGE,
        "{reply}",
        "How many it may generate at the same time (`MAX_LIVE_REPLIES`).",
    ),
    Instrument(
        "colloquy.reply.queued",
        Kind.GAUGE,
        "{reply}",
        "Replies that wait to begin, in the whole database: every process says the same, so take"
        " the largest, not the sum.",
    ),
    Instrument(
        "colloquy.reply.oldest_waiting",
        Kind.GAUGE,
        "s",
        "How long the oldest of those waits, in the whole database; 0 when none does.",
    ),
    Instrument(
        "colloquy.reply.stuck",
        Kind.GAUGE,
        "{reply}",
        "Replies that began and have no owner now, in the whole database: its lease is over, and"
        " nobody has taken over yet.",
    ),
    Instrument(
        "colloquy.reply.ended",
        Kind.COUNTER,
        "{reply}",
        "Replies that had begun, and whose end this process stored.",
        (MODEL, STATE, ERROR),
    ),
    Instrument(
        "colloquy.reply.attempts",
        Kind.HISTOGRAM,
        "{attempt}",
        "Attempts of a reply that ended: more than one where its provider failed in the middle, or"
        " another process took over.",
        (MODEL,),
        _ATTEMPTS,
    ),
    Instrument(
        "colloquy.reply.tokens",
        Kind.COUNTER,
        "{token}",
        "Tokens of all requests for replies, as they are entered into the account's usage: as the"
        " provider counted them, or estimated where its answer was cut off.",
        (MODEL, TOKEN),
    ),
    Instrument(
        "colloquy.reply.cost_usd",
        Kind.COUNTER,
        "{USD}",
        "What these cost, in US dollars by the catalogue's prices.",
        (MODEL,),
    ),
    # Leases.
    Instrument(
        "colloquy.lease.lost",
        Kind.COUNTER,
        "{lease}",
        "Replies that this process generated and had to let go of.",
        (CAUSE,),
    ),
    Instrument(
        "colloquy.lease.taken_over",
        Kind.COUNTER,
        "{lease}",
        "Replies of other owners, or of an earlier process, that this process took over.",
        (CAUSE,),
    ),
    # Providers.
    Instrument(
        "gen_ai.client.operation.duration",
        Kind.HISTOGRAM,
        "s",
        "How long requests to providers took, to the end of the answer.",
        (OPERATION, PROVIDER, MODEL, ERROR),
        _REQUEST_SECONDS,
    ),
    Instrument(
        "gen_ai.client.operation.time_to_first_chunk",
        Kind.HISTOGRAM,
        "s",
        "How long it took to the first text of an answer.",
        (OPERATION, PROVIDER, MODEL, ERROR),
        _FIRST_SECONDS,
    ),
    Instrument(
        "gen_ai.client.token.usage",
        Kind.HISTOGRAM,
        "{token}",
        "Tokens of a request, as the provider counted them; titles have requests, too.",
        (OPERATION, PROVIDER, MODEL, TOKEN, ERROR),
        _TOKENS,
    ),
    Instrument(
        "colloquy.provider.failures",
        Kind.COUNTER,
        "{failure}",
        "Requests for replies that failed at a provider.",
        (MODEL, ERROR, RETRIED),
    ),
    # What it stands on.
    Instrument(
        "db.client.connection.wait_time",
        Kind.HISTOGRAM,
        "s",
        "How long transactions waited to begin: for a connection to Postgres, for SQLite's writer.",
        (POOL,),
        _WAIT_SECONDS,
    ),
    Instrument(
        "colloquy.bus.up",
        Kind.GAUGE,
        "1",
        "Whether events of other processes arrive: 1 or 0. Without them all goes on, slower.",
    ),
    Instrument(
        "colloquy.bus.waiting", Kind.GAUGE, "{event}", "Events that wait to be sent to others."
    ),
    Instrument(
        "colloquy.bus.disconnects",
        Kind.COUNTER,
        "{disconnect}",
        "How often a connection of the bus was lost, or could not be made.",
    ),
    Instrument(
        "colloquy.log.lost_lines",
        Kind.COUNTER,
        "{line}",
        "Lines of the log that nobody took.",
    ),
)
