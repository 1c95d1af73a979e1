"""Mail: messages as they travel, and Outlook's files of one."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from email import message_from_binary_file, policy
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import EmailMessage, Message
from typing import Any, BinaryIO

from colloquy_server.files.extractors import markup, plain_text
from colloquy_server.files.extractors.results import Notes

EML = "message/rfc822"
MHTML = "multipart/related"

_HEADERS = ("Subject", "From", "To", "Cc", "Date")

_MAX_READ = 100_000
"""Bytes of an attachment of plain text that is given with the mail."""

_LINE = re.compile(rb"(?:[!-9;-~]+:[ \t]?.*|[ \t].*)")
_RELATED = re.compile(rb"^content-type:\s*multipart/related\s*;", re.I | re.M)
_KNOWN = re.compile(
    rb"^(?:from|to|subject|date|received|return-path|message-id|mime-version):", re.I | re.M
)


def is_mail(head: bytes) -> bool:
    """Whether a text begins with the headers of a mail."""
    block = re.split(rb"\r?\n\r?\n", head, maxsplit=1)[0]
    lines = block.splitlines()[:-1] or block.splitlines()  # the last may be cut
    return all(map(_LINE.fullmatch, lines)) and len(set(_KNOWN.findall(block))) >= 2


def is_page(head: bytes) -> bool:
    """Whether a text begins as a page that was saved with its pictures as one file (MHTML)."""
    block = re.split(rb"\r?\n\r?\n", head, maxsplit=1)[0]
    return _RELATED.search(block) is not None and all(map(_LINE.fullmatch, block.splitlines()))


def read_page(file: BinaryIO, notes: Notes) -> Iterator[str]:
    """The text of a page that was saved with its pictures as one file, and of those within it."""
    message = message_from_binary_file(file, policy=policy.default)
    for part in message.walk():
        if part.get_content_type() == "text/html":
            yield f"{_body(part, notes)}\n\n"
        elif part.get_content_maintype() == "image":
            notes.left_out("picture")


def read(file: BinaryIO, notes: Notes) -> Iterator[str]:
    """A mail's headers that people read, its text, and the attachments that are text."""
    message = message_from_binary_file(file, policy=policy.default)
    assert isinstance(message, EmailMessage)
    yield from _message(message, notes)


def _message(message: EmailMessage, notes: Notes) -> Iterator[str]:
    for name in _HEADERS:
        if value := _header(message, name):
            yield f"{name}: {value}\n"
    body = message.get_body(("plain", "html"))
    if body is not None:
        yield f"\n{_body(body, notes)}\n"
    for part in _attachments(message, body):
        yield from _attachment(part, notes)


def _header(message: Message, name: str) -> str:
    """A header in plain letters; as it came when it keeps no rule."""
    try:
        value = message.get(name)
    except (ValueError, TypeError, AttributeError, LookupError, IndexError):  # the library's own
        value = next((raw for key, raw in message.raw_items() if key.lower() == name.lower()), "")
    return " ".join(str(value or "").split())


def _body(part: Message, notes: Notes) -> str:
    found = _text(part, notes)
    return _page(found) if part.get_content_subtype() == "html" else found


def _page(source: str) -> str:
    """HTML as Markdown."""
    from bs4 import BeautifulSoup

    return markup.markdown(markup.shown(BeautifulSoup(source, "html.parser")))


def _text(part: Message, notes: Notes) -> str:
    """A part's text, by the encoding that it says it has, else by what its bytes tell."""
    data = _data(part)
    try:
        return data.decode(part.get_content_charset("") or "ascii")
    except (LookupError, UnicodeDecodeError):
        return plain_text.decode(data, notes)


def _data(part: Message) -> bytes:
    data = part.get_payload(decode=True)
    return data if isinstance(data, bytes) else b""


def _attachments(message: Any, body: Message | None) -> Iterator[Any]:
    """All parts that are no form of the body; those in an attached mail are its own."""
    if not message.is_multipart():
        if body is None:  # all of the mail is a file
            yield message
        return
    for part in message.iter_parts():
        if part is body:
            continue
        if part.get_content_maintype() == "multipart":
            yield from _attachments(part, body)
        elif part.get_content_type() != "text/html" or _is_attached(part):
            yield part


def _is_attached(part: Message) -> bool:
    return part.get_content_disposition() == "attachment" or part.get_filename() is not None


def _attachment(part: Any, notes: Notes) -> Iterator[str]:
    content_type = part.get_content_type()
    if content_type == EML:
        yield "\nAttached mail:\n\n"
        for inner in part.iter_parts():
            yield from _message(inner, notes)
        return
    data = _data(part)
    name = part.get_filename() or "without a name"
    yield from _named(name, content_type, data, notes)


def _named(name: str, content_type: str, data: bytes, notes: Notes) -> Iterator[str]:
    """An attachment: its text if it is short and plain, else what it is called."""
    name = " ".join(name.split())
    what = f'"{name}" ({content_type}, {len(data):,} bytes)'
    if 0 < len(data) <= _MAX_READ and plain_text.is_text(data) and not data.startswith(b"%PDF-"):
        found = plain_text.decode(data, notes)
        found = _page(found) if content_type == "text/html" else found
        yield f"\nAttachment {what}:\n\n{found}\n"
    else:
        yield f"\nAttachment {what}: not given here\n"
        notes.say(f"attachment not given: {what}")


def _decoded(value: str) -> str:
    """A header's value in plain letters: Outlook keeps those of the net as they came."""
    with contextlib.suppress(HeaderParseError, ValueError, LookupError):  # it keeps no rule
        value = str(make_header(decode_header(value)))
    return " ".join(value.split())


def _outlook_page(message: Any) -> str:
    """The HTML of a mail as Markdown; empty when there is none that can be read."""
    try:
        return _page(message.html_body or "").strip()
    except (UnicodeDecodeError, LookupError):  # it is not in the encoding that it says
        return ""


def read_outlook(file: BinaryIO, notes: Notes) -> Iterator[str]:
    """The same of a message that Outlook has saved."""
    from oxmsg import Message as OutlookMessage

    message = OutlookMessage.load(file)
    headers = message.message_headers
    to = ", ".join(f"{each.name} <{each.email_address}>" for each in message.recipients)
    told = {
        "Subject": message.subject,
        "From": message.sender or "",
        "To": headers.get("To") or to,
        "Cc": headers.get("Cc"),
        "Date": headers.get("Date") or message.sent_date,
    }
    for name, value in told.items():
        if value:
            yield f"{name}: {_decoded(str(value))}\n"
    if message.body:
        yield f"\n{message.body}\n"
    elif page := _outlook_page(message):
        yield f"\n{page}\n"
    else:
        notes.say("there is no text in it as plain text or HTML: save it as .eml")
    for attachment in message.attachments:
        yield from _named(
            attachment.file_name or "without a name",
            attachment.mime_type or "application/octet-stream",
            attachment.file_bytes or b"",
            notes,
        )
