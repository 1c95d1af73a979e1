"""The decoder gives the same events however the stream is cut into packets."""

import itertools

import pytest
from colloquy_server.providers.sse import MAX_EVENT_BYTES, SseDecoder, SseError
from hypothesis import given
from hypothesis import strategies as st


def decode(packets: list[bytes]) -> list[bytes]:
    decoder = SseDecoder()
    events = [event for packet in packets for event in decoder.feed(packet)]
    return events + decoder.close()


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges)]


line_ends = st.sampled_from(["\n", "\r\n", "\r"])
data_lines = st.lists(
    st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=8),
    min_size=1,
    max_size=3,
)
noise = st.sampled_from(["", ": a comment", ":", "event: error", "id: 1", "retry: 5", "unknown"])


@given(
    events=st.lists(st.tuples(data_lines, noise, line_ends, st.booleans()), max_size=6),
    places=st.lists(st.integers(min_value=0), max_size=12),
    bom=st.booleans(),
    whole=st.booleans(),
)
def test_any_cut_of_any_stream_gives_the_same_events(
    events: list[tuple[list[str], str, str, bool]], places: list[int], bom: bool, whole: bool
) -> None:
    stream = "\ufeff" if bom else ""
    for lines, other, end, space in events:
        stream += f"{other}{end}" if other else ""
        stream += "".join(f"data:{' ' if space else ''}{line}{end}" for line in lines)
        stream += end
    if not whole:
        stream = stream.rstrip("\r\n")
    expected = []
    for lines, _, _, space in events:
        kept = [line if space else line.removeprefix(" ") for line in lines]
        expected.append("\n".join(kept).encode())
    assert decode(cut(stream.encode(), places)) == expected


@given(st.binary(max_size=200), st.lists(st.integers(min_value=0), max_size=8))
def test_any_bytes_are_decoded_alike_however_they_are_cut(stream: bytes, places: list[int]) -> None:
    assert decode(cut(stream, places)) == decode([stream])


@given(st.text(alphabet="data: x\n\r", max_size=60), st.lists(st.integers(min_value=0), max_size=8))
def test_the_fast_path_agrees_with_the_slow_one(stream: str, places: list[int]) -> None:
    single_bytes = [bytes([byte]) for byte in stream.encode()]
    assert decode(cut(stream.encode(), places)) == decode(single_bytes)


def test_an_event_without_its_blank_line_counts_at_the_end() -> None:
    assert decode([b"data: one\n\ndata: two"]) == [b"one", b"two"]


def test_an_event_that_never_ends_is_an_error() -> None:
    decoder = SseDecoder()
    packet = b"x" * 65536
    decoder.feed(b"data: ")
    with pytest.raises(SseError):
        for _ in range(MAX_EVENT_BYTES // len(packet) + 1):
            decoder.feed(packet)


def test_an_event_of_endless_lines_is_an_error() -> None:
    decoder = SseDecoder()
    packet = b"data: " + b"x" * 8192 + b"\n"
    with pytest.raises(SseError):
        for _ in range(MAX_EVENT_BYTES // 8192 + 1):
            decoder.feed(packet)
