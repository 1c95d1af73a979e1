"""What a message in Slack says: the text of its `text`, blocks and attachments together.

It is Slack's mrkdwn with ids for names, as `text` is; `mentions.to_plain_text` makes it readable.
What has no text is named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]

_PLACEHOLDERS = {"This content can't be displayed.", "[no preview available]"}
"""What Slack writes where an app gave no text of its own."""

_BAR = re.compile(r"\|(?![^<>]*>)")
"""A bar that stands in no link."""

_FORWARDED = ", forwarded:]"
"""How the first line of a forwarded message ends."""

_PERMALINK = re.compile(r"https://[\w.-]+\.slack\.com/archives/[A-Z0-9]+/p\d{16}")

_UNSPOKEN = re.compile(r"```.*?```|`[^`\n]+`|^&gt;&gt;&gt;.*|^&gt;[^\n]*", re.MULTILINE | re.DOTALL)
_UNSPOKEN_PARTS = {"rich_text_preformatted", "rich_text_quote"}
"""Code and quotes, in mrkdwn and in rich text."""

_WORD = re.compile(r"\w+")

_READABLE_KEYS = ("title", "subtitle", "text", "body", "description", "label", "alt_text")


def text_of(message: Json) -> str:
    """Return all that a message says, with what is forwarded in it. A preview of a web page is left
    out: it is not the author's, and comes when it comes."""
    attachments = _dicts(message.get("attachments"))
    return _lines(written_text(message), *map(_shared, filter(_is_shared, attachments)))


def written_text(message: Json) -> str:
    """Return what the author of a message wrote, or pasted as a table: without what it quotes."""
    more = [_attachment(one) for one in _dicts(message.get("attachments")) if _is_written(one)]
    return _lines(own_words(message), *more)


def own_words(message: Json) -> str:
    """Return what `text` and blocks say: only there a mention calls somebody."""
    text, blocks = _string(message.get("text")), _dicts(message.get("blocks"))
    if not text or message.get("bot_id"):
        return _merged(text, _blocks(blocks))
    # A person's text is made by Slack, of their rich text; an app writes the two apart.
    return _lines(text, _blocks([block for block in blocks if block.get("type") != "rich_text"]))


def calling_words(message: Json) -> str:
    """Return what a message says to others: a name in code, or in a quote, calls nobody."""
    blocks = _dicts(message.get("blocks"))
    if any(block.get("type") == "rich_text" for block in blocks):
        return _blocks(list(map(_spoken, blocks)))
    return _UNSPOKEN.sub(" ", own_words(message))


def files_of(message: Json) -> list[Json]:
    """Return the files of a message, and those of the messages that it forwards; each once."""
    found = list(_dicts(message.get("files")))
    for inner in [*_shared_messages(message), *_dicts(message.get("attachments"))]:
        found += files_of(inner)
    return list({str(file.get("id") or number): file for number, file in enumerate(found)}.values())


def has_unshown_link(text: str) -> bool:
    """Whether a text has the link of a message in Slack, and not that message itself."""
    return bool(_PERMALINK.search(text)) and _FORWARDED not in text


def bot_name(message: Json) -> str:
    """Return the name that an app's message shows; empty when it shows none of its own."""
    profile = message.get("bot_profile")
    name = profile.get("name") if isinstance(profile, dict) else ""
    return str(message.get("username") or name or "")


def when(ts: str) -> str:
    """Return the time that the ts of a message means; empty when it means none."""
    try:
        return datetime.fromtimestamp(float(ts), UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return ""


# Attachments.


def _is_written(attachment: Json) -> bool:
    """Whether it is part of what the author wrote. Slack adds previews of links later."""
    return not (_is_shared(attachment) or attachment.get("from_url"))


def _is_shared(attachment: Json) -> bool:
    """Whether it is a message that was forwarded, or whose link was pasted."""
    return any(attachment.get(key) for key in ("is_share", "is_msg_unfurl", "message_blocks"))


def _attachment(attachment: Json) -> str:
    title, link = _string(attachment.get("title")), _string(attachment.get("title_link"))
    image = _string(attachment.get("image_url"))
    text = _lines(
        _string(attachment.get("pretext")),
        _string(attachment.get("author_name")),
        _link(link, title) if link else title,
        _merged(_string(attachment.get("text")), _blocks(_dicts(attachment.get("blocks")))),
        *(
            _lines_with_colon(_string(field.get("title")), _string(field.get("value")))
            for field in _dicts(attachment.get("fields"))
        ),
        f"[image: {_link(image, '')}]" if image else "",
        _string(attachment.get("footer")),
    )
    return text or _string(attachment.get("fallback"))


def _shared(attachment: Json) -> str:
    author_id, channel_id = attachment.get("author_id"), attachment.get("channel_id")
    author = _string(attachment.get("author_name")) or (f"<@{author_id}>" if author_id else "")
    channel = _string(attachment.get("channel_name")).removeprefix("#")
    place = f"#{channel}" if channel else f"<#{channel_id}>" if channel_id else ""
    head = "Message" + (f" from {author}" if author else "") + (f" in {place}" if place else "")
    time = when(str(attachment.get("ts") or ""))
    inner = [text_of({**one, "bot_id": "of whomever"}) for one in _shared_messages(attachment)]
    said = _lines(
        _merged(_string(attachment.get("text")), _lines(*inner)),
        *map(_attachment, filter(_is_written, _dicts(attachment.get("attachments")))),
    )
    files = [f"[file: {_escaped(name_of(file))}]" for file in files_of(attachment)]
    body = _lines(said or _string(attachment.get("fallback")), *files)
    return f"[{head}{f', {time}' if time else ''}{_FORWARDED}\n{_quoted(body)}"


def name_of(file: Json) -> str:
    """Return what people call a file."""
    return str(file.get("name") or file.get("title") or "a file")


def _shared_messages(attachment: Json) -> list[Json]:
    blocks = _dicts(attachment.get("message_blocks"))
    return [one["message"] for one in blocks if isinstance(one.get("message"), dict)]


# Blocks.


def _blocks(blocks: list[Json]) -> str:
    return _lines(*map(_block, blocks))


def _block(block: Json) -> str:
    kind = str(block.get("type"))
    if kind in _BLOCKS:
        return _BLOCKS[kind](block)
    return " ".join(_texts(block)) or f"[{kind}: cannot be read]"


def _section(block: Json) -> str:
    accessory = block.get("accessory")
    return _lines(
        _text_object(block.get("text")),
        *map(_text_object, _dicts(block.get("fields"))),
        _element(accessory) if isinstance(accessory, dict) else "",
    )


def _elements(block: Json) -> str:
    return " ".join(filter(None, map(_element, _dicts(block.get("elements")))))


def _element(element: Json) -> str:
    """An image, a button, or a text among others."""
    kind = element.get("type")
    if kind in {"mrkdwn", "plain_text"}:
        return _text_object(element)
    if kind == "image":
        return _image(element)
    label = " ".join(_texts(element))
    url = _string(element.get("url"))
    return _link(url, label) if url else f"[{label}]" if label else ""


def _image(block: Json) -> str:
    label = _text_object(block.get("title")) or _escaped(_string(block.get("alt_text")))
    url = _string(block.get("image_url"))
    return f"[image: {_link(url, label) if url else label}]"


def _video(block: Json) -> str:
    words = _lines(_text_object(block.get("title")), _text_object(block.get("description")))
    return f"[video: {_link(_string(block.get('title_url')), words) if words else ''}]"


def _table(block: Json) -> str:
    """A table, as Markdown has them."""
    rows = [
        [_cell(cell) if isinstance(cell, dict) else "" for cell in row]
        for row in block.get("rows") or []
        if isinstance(row, list)
    ]
    width = max(map(len, rows), default=0)
    lines = [f"| {' | '.join(row + [''] * (width - len(row)))} |" for row in rows]
    if lines:
        lines.insert(1, f"|{' --- |' * width}")
    return "\n".join(lines)


def _cell(cell: Json) -> str:
    text = _rich_text(cell) if cell.get("type") == "rich_text" else _plain(cell.get("text"))
    if not text and cell.get("value") is not None:
        text = _escaped(str(cell["value"]))
    # Not the bar within a link: it becomes another character when the text is made readable.
    return " ".join(_BAR.sub(r"\\|", text).split())


def _rich_text(block: Json) -> str:
    return _lines(*map(_rich_part, _dicts(block.get("elements"))))


def _rich_part(part: Json) -> str:
    kind, elements = part.get("type"), _dicts(part.get("elements"))
    if kind == "rich_text_list":
        number, indent = int(part.get("offset") or 0), "  " * int(part.get("indent") or 0)
        is_ordered = part.get("style") == "ordered"
        return "\n".join(
            f"{indent}{f'{number + count}.' if is_ordered else '•'} {_rich_part(element)}"
            for count, element in enumerate(elements, 1)
        )
    text = "".join(map(_inline, elements)).strip("\n")
    if kind == "rich_text_preformatted":
        return f"```\n{text}\n```"
    return _quoted(text) if kind == "rich_text_quote" else text


def _spoken(element: Json) -> Json:
    """Rich text without code and quotes."""
    if not isinstance(element.get("elements"), list):
        return element
    spoken = [_spoken(one) for one in _dicts(element["elements"]) if not _is_unspoken(one)]
    return {**element, "elements": spoken}


def _is_unspoken(element: Json) -> bool:
    style = element.get("style")
    is_code = isinstance(style, dict) and bool(style.get("code"))
    return is_code or element.get("type") in _UNSPOKEN_PARTS


def _inline(element: Json) -> str:
    kind = element.get("type")
    if kind == "text":
        text = _plain(element.get("text"))
        return f"`{text}`" if (element.get("style") or {}).get("code") else text
    if kind == "link":
        return _link(_string(element.get("url")), _plain(element.get("text")))
    if kind == "emoji":
        return _emoji(element)
    if kind == "date":
        return _plain(element.get("fallback")) or when(str(element.get("timestamp") or ""))
    for name, prefix in _IDS.items():
        if element.get(name):
            return f"<{prefix}{element[name]}>"
    return _plain(element.get("value")) or " ".join(_texts(element))


_IDS = {"user_id": "@", "channel_id": "#", "usergroup_id": "!subteam^", "range": "!"}
"""What stands in rich text by an id, and before that id in mrkdwn."""


def _emoji(element: Json) -> str:
    try:
        return "".join(chr(int(code, 16)) for code in str(element["unicode"]).split("-"))
    except (KeyError, ValueError, OverflowError):
        return f":{element.get('name')}:"


_BLOCKS: dict[str, Callable[[Json], str]] = {
    "rich_text": _rich_text,
    "section": _section,
    "context": _elements,
    "actions": _elements,
    "context_actions": lambda _: "",
    "header": lambda block: _text_object(block.get("text")),
    "markdown": lambda block: _plain(block.get("text")),
    "image": _image,
    "video": _video,
    "table": _table,
    "divider": lambda _: "",
}


# Texts.


def _texts(value: Any) -> Iterator[str]:
    """All that is readable in a thing of an unknown kind."""
    if isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, dict):
        if value.get("type") in {"mrkdwn", "plain_text"}:
            yield _text_object(value)
            return
        for key, inner in value.items():
            if isinstance(inner, str):
                if key in _READABLE_KEYS and inner:
                    yield _escaped(inner)
            else:
                yield from _texts(inner)


def _text_object(value: Any) -> str:
    if not isinstance(value, dict):
        return ""
    text = _string(value.get("text"))
    return text if value.get("type") == "mrkdwn" else _escaped(text)


def _merged(text: str, rendered: str) -> str:
    """What a text and its blocks say, once: mostly one of them holds the other."""
    text = "" if text in _PLACEHOLDERS else text
    words, more = _words(text), _words(rendered)
    if words in more:
        return rendered or text
    return text if more in words else _lines(text, rendered)


def _words(text: str) -> str:
    return " " + " ".join(_WORD.findall(text)) + " "


def _link(url: str, label: str) -> str:
    return f"<{url}|{label}>" if label and url else f"<{url}>" if url else label


def _quoted(text: str) -> str:
    return "\n".join(f"&gt; {line}" for line in text.split("\n"))


def _lines(*parts: str) -> str:
    return "\n".join(filter(None, parts))


def _lines_with_colon(title: str, value: str) -> str:
    return f"{title}: {value}" if title and value else title or value


def _string(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _plain(value: Any) -> str:
    return _escaped(value) if isinstance(value, str) else ""


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _dicts(value: Any) -> list[Json]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
