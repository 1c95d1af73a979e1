"""Mails as they travel, and as Outlook saves them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from email.message import EmailMessage

from tests.fakes import samples

Tree = Mapping[str, "bytes | Tree"]


def eml() -> bytes:
    """A mail in plain text and HTML with a table, a PDF and another mail attached."""
    inner = EmailMessage()
    inner["Subject"] = "Erste Frage"
    inner["From"] = "Bob <bob@example.com>"
    inner.set_content("Wann?")
    mail = EmailMessage()
    mail["Subject"] = "Réunion lundi 🙂"
    mail["From"] = "Zoë <zoe@example.com>"
    mail["To"] = "bob@example.com"
    mail["Date"] = "Mon, 06 Jul 2026 10:00:00 +0200"
    mail["X-Trace"] = "of no use"
    mail.set_content("Rendez-vous à 15h.", cte="quoted-printable")
    mail.add_alternative("<p>Rendez-vous à <b>15h</b>.</p>", subtype="html")
    mail.add_attachment(samples.csv(), maintype="text", subtype="csv", filename="été.csv")
    pdf = samples.pdf("Plan")
    mail.add_attachment(pdf, maintype="application", subtype="pdf", filename="plan.pdf")
    mail.add_attachment(inner)
    return mail.as_bytes()


def html_eml() -> bytes:
    """A mail in HTML alone, of an encoding that has no such name."""
    return (
        b"From: a@example.com\r\nSubject: =?iso-8859-1?Q?Caf=E9?=\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: text/html; charset=x-unknown\r\n\r\n"
        b"<style>p {}</style><p>Un <b>caf\xe9</b> pour Zo\xeb</p>"
    )


def msg(subject: str = "Réunion lundi") -> bytes:
    """A mail that Outlook has saved, with a table and a drawing attached."""
    texts = {0x0037: subject, 0x0C1A: "Zoë", 0x0C1F: "zoe@example.com"}
    files = {
        f"__attach_version1.0_#{number:08X}": _properties(8, {0x3707: name}, {0x3701: data})
        for number, (name, data) in enumerate(
            [("table.csv", samples.csv()), ("plan.png", samples.png())]
        )
    }
    return _compound({**_properties(32, {**texts, 0x1000: "À 15h."}, {}), **files})


def _properties(header: int, texts: Mapping[int, str], data: Mapping[int, bytes]) -> Tree:
    """An object of a mail: its properties, by their numbers."""
    values = {(number, 0x1F): text.encode("utf-16-le") for number, text in texts.items()}
    values |= {(number, 0x102): value for number, value in data.items()}
    rows = [
        struct.pack("<HHIII", kind, number, 6, len(value), 0)
        for (number, kind), value in values.items()
    ]
    return {
        "__properties_version1.0": bytes(header) + b"".join(rows),
        **{f"__substg1.0_{n:04X}{kind:04X}": value for (n, kind), value in values.items()},
    }


def _compound(tree: Tree) -> bytes:
    """A file of Microsoft's older container; all streams are among the small ones."""
    entries: list[bytes] = []
    small: list[bytes] = []  # in sectors of 64 bytes
    chains: list[int] = []

    def add(name: str, content: bytes | Tree, following: int) -> int:
        """The number of an entry, whose next one is `following`."""
        kind, child, start, size = 1, -1, -2, 0
        if isinstance(content, bytes):
            kind, start, size = 2, len(small), len(content)
            pieces = [content[at : at + 64].ljust(64, b"\0") for at in range(0, size, 64)]
            small.extend(pieces)
            chains.extend([*range(start + 1, start + len(pieces)), -2])
        else:
            for each, inner in reversed([*content.items()]):
                child = add(each, inner, child)
        entries.append(_entry(name, kind, following, child, start, size))
        return len(entries)  # the root is put before all

    child = -1
    for name, content in reversed([*tree.items()]):
        child = add(name, content, child)
    streams, lengths = b"".join(small), struct.pack("<128i", *chains, *[-1] * (128 - len(chains)))
    size = -(-len(streams) // 512)
    root = _entry("Root Entry", 5, -1, child, 0, len(streams))
    folder = root + b"".join(entries)
    parts = [(streams, size), (lengths, 1), (folder, -(-len(folder) // 512))]
    table = [follower for at, (_, count) in enumerate(parts)
             for follower in _chain(sum(count for _, count in parts[:at]), count)]  # fmt: skip
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16)
    header += struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + bytes(6)
    header += struct.pack("<IIIIIiIiI", 0, 1, size + 1, 0, 4_096, size, 1, -2, 0)
    header += struct.pack("<109i", len(table), *[-1] * 108)
    sectors = b"".join(data.ljust(count * 512, b"\0") for data, count in parts)
    return header + sectors + struct.pack("<128i", *table, -3, *[-1] * (127 - len(table)))


def _chain(start: int, count: int) -> list[int]:
    return [*range(start + 1, start + count), -2]


def _entry(name: str, kind: int, following: int, child: int, start: int, size: int) -> bytes:
    written = name.encode("utf-16-le")
    return (
        written.ljust(64, b"\0")
        + struct.pack("<HBBiii", len(written) + 2, kind, 1, -1, following, child)
        + bytes(36)
        + struct.pack("<iQ", start, size)
    )
