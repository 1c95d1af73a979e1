"""Server-sent events: a provider's byte stream, in whatever packets it comes, to event payloads.

Follows the event stream format of the HTML standard, except that only `data` fields are of use
here and that a last event without its blank line counts (`close`): some providers leave it out.
"""

from __future__ import annotations

import re

MAX_EVENT_BYTES = 4 * 1024 * 1024
"""A chat chunk is some hundred bytes; a whole answer in one chunk stays far below this."""

_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\r|\n")


class SseError(Exception):
    """The stream cannot be server-sent events: an event is larger than MAX_EVENT_BYTES."""


class SseDecoder:
    """Incremental decoder; memory is bounded by one event of MAX_EVENT_BYTES."""

    __slots__ = ("_at_start", "_data_lines", "_pending_bytes", "_skip_line_feed", "_tail")

    def __init__(self) -> None:
        self._at_start = True
        self._data_lines: list[bytes] = []  # of the event that is not finished
        self._tail: list[bytes] = []  # of the line that is not finished
        self._pending_bytes = 0  # length of both
        self._skip_line_feed = False  # the last packet ended between CR and LF

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads of the events that end in this packet. Raises SseError."""
        if self._at_start:
            data = self._strip_bom(data)
            if self._at_start:
                return []
        if (
            not self._pending_bytes
            and not self._skip_line_feed
            and data.endswith(b"\n\n")
            and b"\r" not in data
            and len(data) <= MAX_EVENT_BYTES
        ):
            return self._whole_events(data)
        return self._lines(data)

    def close(self) -> list[bytes]:
        """The payload of a last event that lacks its blank line, if there is one."""
        self._at_start = False
        if self._tail:
            line = b"".join(self._tail)
            self._tail = []
            self._line(line)
        events = [b"\n".join(self._data_lines)] if self._data_lines else []
        self._data_lines = []
        self._pending_bytes = 0
        return events

    def _strip_bom(self, data: bytes) -> bytes:
        data = b"".join(self._tail) + data
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._tail = [data]
            return b""
        self._tail = []
        self._at_start = False
        return data.removeprefix(_BOM)

    def _whole_events(self, data: bytes) -> list[bytes]:
        """The fast path: a packet of whole events, as nearly all are."""
        events = []
        for block in data.split(b"\n\n"):
            if b"\n" in block or not block.startswith(b"data: "):
                for line in block.split(b"\n"):
                    self._line(line)
                if self._data_lines:
                    events.append(b"\n".join(self._data_lines))
                    self._data_lines = []
            else:
                events.append(block[6:])
        self._pending_bytes = 0
        return events

    def _lines(self, data: bytes) -> list[bytes]:
        if self._skip_line_feed and data:
            self._skip_line_feed = False
            data = data.removeprefix(b"\n")
        lines = _LINE_END.split(data)
        self._pending_bytes += len(data)
        if len(lines) == 1:
            self._tail.append(data)
            self._check_size()
            return []
        self._skip_line_feed = data.endswith(b"\r")
        lines[0] = b"".join(self._tail) + lines[0]
        rest = lines.pop()
        self._tail = [rest] if rest else []
        events = []
        for line in lines:
            if line:
                self._line(line)
            elif self._data_lines:
                events.append(b"\n".join(self._data_lines))
                self._data_lines = []
        self._pending_bytes = len(rest) + sum(map(len, self._data_lines)) + len(self._data_lines)
        self._check_size()
        return events

    def _line(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            self._data_lines.append(line[6:] if line.startswith(b"data: ") else line[5:])
        elif line == b"data":
            self._data_lines.append(b"")

    def _check_size(self) -> None:
        if self._pending_bytes > MAX_EVENT_BYTES:
            raise SseError(f"an event is larger than {MAX_EVENT_BYTES} bytes")
