"""How much more two serving processes do than one: `colloquy serve --workers 2`, over Postgres.

Load, provider and Postgres take part of the machine's cores. So what is limited is what the workers
could do if each had a core of its own, by the CPU that a reply took them; what two take more for a
reply, by waiting for each other or by what they tell each other, is in that.
"""

from __future__ import annotations

from bench import instant
from bench.client import ServerClient
from bench.floors import replies as floor
from bench.replies import WARM_UP, ServerTarget, Shape, run
from bench.report import Limit, Row, compared
from bench.stage import Databases, open_stage

LIMIT = Limit(1.5, at_least=True)
"""Times the replies a second of one worker, on as many cores as there are workers."""

_SHAPE = Shape("32 conversations, 19 exchanges each", conversations=32, replies=32 * 19)
_CONNECTIONS = 16
"""More than elsewhere, so that each of the processes gets its part of them."""


async def measure(databases: Databases, rounds: int) -> list[Row]:
    """One worker and two in turn. Raises ProcessFailed."""
    async with (
        instant.serving() as base_url,
        open_stage(databases, base_url, floor.__name__) as one,
        open_stage(databases, base_url, floor.__name__, "--workers", "2") as two,
    ):
        targets = [
            ServerTarget(
                stage.server, await ServerClient.sign_up(stage.server.address, _CONNECTIONS)
            )
            for stage in (one, two)
        ]
        for target in targets:
            await run(target, WARM_UP)
        costs = [[await run(target, _SHAPE) for target in targets] for _ in range(rounds)]
    alone, together = zip(*costs, strict=True)
    names = ("workers", databases.kind)
    return [
        compared(
            *(*names, "two workers (beside: one), all on this machine", "replies/s"),
            [cost.pace for cost in together],
            [cost.pace for cost in alone],
        ),
        compared(
            *(*names, "two workers (beside: one), a core for each", "replies/s"),
            [2_000 / cost.cpu for cost in together],
            [1_000 / cost.cpu for cost in alone],
            LIMIT,
        ),
    ]
