"""Text from the server made fit for a terminal, for scripts and for people."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message as Proto
from google.protobuf.timestamp_pb2 import Timestamp

# Everything that a terminal may take for a command: C0 without tab and newline, DEL, C1.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(text: str) -> str:
    """Return text without control characters other than newline and tab.

    What models and other people write could otherwise move the cursor, change the window's title
    or hide a command.
    """
    return _CONTROLS.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def clean_line(text: str) -> str:
    """Return text as one line."""
    return " ".join(clean(text).split())


def to_json(message: Proto) -> str:
    """Return a message as JSON on one line: field names as in the protos, empty fields too.

    JSON escapes the control characters below a space; those above 0x7e are escaped here.
    """
    return dump(as_dict(message))


def as_dict(message: Proto) -> dict[str, Any]:
    """Return a message as JSON has it."""
    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def dump(value: object, indent: int | None = None) -> str:
    """Return a value as JSON that is safe on a terminal."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return re.sub(r"[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", text)


def to_tsv(fields: Iterable[object]) -> str:
    """Return fields as one line for cut and awk: tabs between, none within."""
    return "\t".join(clean_line(str(field)) for field in fields)


def local_time(time: Timestamp) -> str:
    """Return a time for people, in their zone; empty when it is not set."""
    if not time.seconds:
        return ""
    return datetime.fromtimestamp(time.seconds).astimezone().strftime("%Y-%m-%d %H:%M")


def utc_time(time: Timestamp) -> str:
    """Return a time for scripts, as ISO 8601 in UTC; empty when it is not set."""
    return time.ToJsonString() if time.seconds else ""
