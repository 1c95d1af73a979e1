"""A provider's text, made fit to be stored: no U+0000 and no lone surrogates."""

from __future__ import annotations

import re

_SURROGATE = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


class TextRepair:
    """Repairs a text that comes in pieces.

    Postgres stores no U+0000, and neither UTF-8 nor protobuf can carry a lone surrogate. JSON can
    (`"\\ud83d"`), and a provider that cuts its text by UTF-16 units splits a pair over two pieces:
    such a pair is joined, a surrogate without its other half becomes U+FFFD.
    """

    __slots__ = ("_high",)

    def __init__(self) -> None:
        self._high = ""  # a high surrogate that ended the last piece

    def feed(self, piece: str) -> str:
        """The piece, repaired; a high surrogate at its end is kept for the next one."""
        if "\0" in piece:
            piece = piece.replace("\0", "")
        if not self._high and (piece.isascii() or not _SURROGATE.search(piece)):
            return piece
        piece = self._high + piece
        self._high = ""
        if piece and "\ud800" <= piece[-1] <= "\udbff":
            self._high = piece[-1]
            piece = piece[:-1]
        # UTF-16 joins the pairs; what is left over is replaced.
        return piece.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def close(self) -> str:
        """What is left at the end: U+FFFD for a high surrogate that never got its other half."""
        rest = _REPLACEMENT if self._high else ""
        self._high = ""
        return rest


def repaired(text: str) -> str:
    """A whole text, repaired."""
    repair = TextRepair()
    return repair.feed(text) + repair.close()
