"""What counts as a sign that an answer goes on, and what does not."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest
from colloquy_server.providers.watchdog import Comments, TotalTimeout, Watchdog

EVENT = b'data: {"choices": [{"delta": {"content": ": not a comment\\n"}}]}\n\n'
COMMENT = b": OPENROUTER PROCESSING\n\n"


def heard(*packets: bytes) -> list[bool]:
    """For each packet, whether it held nothing but comments."""
    comments = Comments()
    return [comments.alone(packet) for packet in packets]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_comments_alone_are_told_from_events_in_whatever_packets(
    line_end: bytes, size: int
) -> None:
    def packets(stream: bytes) -> list[bytes]:
        data = stream.replace(b"\n", line_end)
        return [data[at : at + size] for at in range(0, len(data), size)]

    assert all(heard(*packets(COMMENT * 3)))
    assert not all(heard(*packets(COMMENT * 2 + EVENT)))
    after = heard(*packets(COMMENT + EVENT), *packets(COMMENT))
    assert all(after[-len(packets(COMMENT)) :])


def test_the_middle_of_an_event_is_no_comment() -> None:
    assert heard(b"data: {", b": }", b": ", b"\n\n", b": ping") == [
        False, False, False, False, True,
    ]  # fmt: skip
    assert heard(EVENT, COMMENT, b"", b"event: ping\n") == [False, True, False, False]


def watchdog(first: float = 60, idle: float = 60, total: float = 60) -> Watchdog:
    return Watchdog(asyncio.get_running_loop().time(), first, idle, total)


def endlessly(packet: bytes, each: float = 0.005) -> Callable[[], Awaitable[bytes]]:
    async def read() -> bytes:
        await asyncio.sleep(each)
        return packet

    return read


async def drain(dog: Watchdog, read: Callable[[], Awaitable[bytes]]) -> None:
    while await dog.next(read):
        pass


async def test_comments_prolong_no_wait_for_ever() -> None:
    """Nothing but comments comes, each in time: the wait for the first event ends, and so does one
    between two events."""
    with pytest.raises(TimeoutError):
        await drain(watchdog(first=0.05), endlessly(COMMENT))
    dog = watchdog(idle=0.05)
    assert await dog.next(endlessly(EVENT)) == EVENT
    with pytest.raises(TimeoutError) as caught:
        await drain(dog, endlessly(COMMENT))
    assert not isinstance(caught.value, TotalTimeout)


async def test_comments_prolong_a_wait() -> None:
    """What each deadline is, without waiting for it."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    dog = Watchdog(start, 100, 200, 10_000)
    deadlines = []

    async def say(packet: bytes) -> None:
        async def read() -> bytes:
            deadlines.append(dog._deadline - start)
            return packet

        await dog.next(read)

    for packet in (COMMENT, COMMENT, EVENT, COMMENT, EVENT, b""):
        await say(packet)
    assert deadlines == pytest.approx([100, 100, 100, 200, 200, 200], abs=30)
    assert all(earlier <= later for earlier, later in pairwise(deadlines[:3]))
    dog.stop()


@pytest.mark.parametrize("each", [0.005, 0])
async def test_the_whole_ends_however_much_comes(each: float) -> None:
    with pytest.raises(TotalTimeout):
        await drain(watchdog(total=0.05), endlessly(EVENT, each))


async def test_the_whole_ends_when_there_is_never_a_wait() -> None:
    async def read() -> bytes:
        return EVENT

    with pytest.raises(TotalTimeout):
        await drain(watchdog(total=0.05), read)
