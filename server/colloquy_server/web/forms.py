"""The file of a form (multipart/form-data), as it comes.

A form costs about what its file does: what is beside that is small, or the form is refused.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from colloquy_server.errors import InvalidField

_MAX_BESIDE = 64 << 10
"""Bytes of a form that may come before its file or behind it: other fields, which nobody reads."""

_MAX_PARTS = 16
"""Of a form: each takes the event loop some microseconds, however small it is."""


@dataclass(frozen=True, slots=True)
class FormFile:
    """A file that comes in a form: what its part says of it, and its bytes, to be taken at once."""

    filename: str
    content_type: str
    parser: _Parser
    rest: AsyncIterator[bytes]

    async def chunks(self) -> AsyncIterator[bytes]:
        """Raises InvalidField when the form breaks off, or holds more than this file."""
        behind = 0
        while True:
            for data in self.parser.take():
                yield data
            try:
                data = await anext(self.rest)
            except StopAsyncIteration:
                break
            if self.parser.has_ended:
                behind += len(data)
                if behind > _MAX_BESIDE:
                    raise InvalidField({"request": "the form has too much behind its file"})
            self.parser.feed(data)
        if not self.parser.has_ended:
            raise _broken()


async def first_file(content_type: str, body: AsyncIterator[bytes]) -> FormFile:
    """Reads up to the file's first bytes. Raises InvalidField."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise InvalidField({"content-type": "a form's names its boundary"})
    parser = _Parser(boundary)
    size = 0
    async for data in body:
        size += len(data)
        parser.feed(data)
        if parser.filename is not None:
            return FormFile(parser.filename, parser.content_type, parser, body)
        if size > _MAX_BESIDE:
            break
    raise InvalidField({"request": "the form has no file, or too much before it"})


class _Parser:
    """Takes a form in, and keeps what its first file is."""

    def __init__(self, boundary: bytes) -> None:
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._on_field,
                    "on_header_value": self._on_value,
                    "on_header_end": self._on_header,
                    "on_headers_finished": self._on_headers,
                    "on_part_data": self._on_data,
                    "on_part_end": self._end,
                },
            )
        except FormParserError:
            raise _broken() from None
        self.filename: str | None = None
        self.content_type = ""
        self.has_ended = False
        self._parts = 0
        self._field = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Takes the next bytes of the form. Raises InvalidField."""
        try:
            self._parser.write(data)
        except FormParserError:
            raise _broken() from None

    def take(self) -> list[bytes]:
        """The file's bytes that have come since the last time."""
        data, self._data = self._data, []
        return data

    @property
    def _is_in_file(self) -> bool:
        return self.filename is not None and not self.has_ended

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise InvalidField({"request": f"the form has more than {_MAX_PARTS} parts"})
        self._headers = {}

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _on_headers(self) -> None:
        given = self._headers.get(b"content-disposition", b"").decode("latin-1")
        name = parse_options_header(given)[1].get(b"filename")
        if name is not None and self.filename is not None:
            raise InvalidField({"request": "the form has two files: send them one by one"})
        if name is not None:
            self.filename = name.decode(errors="replace")
            self.content_type = self._headers.get(b"content-type", b"").decode("latin-1")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_in_file:
            self._data.append(data[start:end])

    def _end(self) -> None:
        self.has_ended = self.filename is not None


def _broken() -> InvalidField:
    return InvalidField({"request": "is no form, or broke off"})
