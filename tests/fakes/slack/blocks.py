"""Block Kit: what Slack refuses, what a message says, and whom it would notify."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from markdown_it import MarkdownIt

from tests.fakes.slack.errors import SlackError, invalid_blocks
from tests.fakes.slack.state import Ids, Json, Message

TEXT_LIMIT = 4000
"""`text` of chat.update, documented; chat.postMessage refuses more in practice."""
MARKDOWN_LIMIT = 12_000
"""`markdown_text`; a markdown block; all markdown blocks of a message together."""
SECTION_LIMIT = 3000
ALL_BLOCKS_LIMIT = 13_200
"""All text of a message's blocks. Not documented; users measured 13,200 to 13,297
(https://github.com/slackapi/bolt-js/issues/2509)."""
BLOCKS_LIMIT = 50

_TYPES = {
    *("actions", "alert", "call", "card", "carousel", "container", "context", "context_actions"),
    *("divider", "file", "header", "image", "input", "markdown", "plan", "rich_text", "section"),
    *("table", "task_card", "video"),
}
_MARKDOWN = MarkdownIt("commonmark").enable("table")
_MENTION = re.compile(r"<(!channel|!here|!everyone|!subteam\^[A-Z0-9]+|@[UW][A-Z0-9]+)(\|[^>]*)?>")
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)


@dataclass(frozen=True)
class Notification:
    """A mention that Slack would act on."""

    mention: str
    """`!channel`, `!here`, `!everyone`, `!subteam^S…` or `@U…`."""
    in_code: bool
    """Within code: Slack mostly leaves it alone, but has no rule that says so."""


def check_text(text: str) -> None:
    """Refuse a `text` that is too long."""
    if len(text) > TEXT_LIMIT:
        raise SlackError("msg_too_long")


def check_markdown_text(markdown: str) -> None:
    if len(markdown) > MARKDOWN_LIMIT:
        raise SlackError("msg_too_long")


def check_blocks(blocks: list[Json]) -> None:
    """Refuse blocks that break Slack's limits, in the order in which Slack seems to look."""
    if len(blocks) > BLOCKS_LIMIT:
        raise invalid_blocks("no more than 50 items allowed", "/blocks")
    for index, block in enumerate(blocks):
        _check_block(block, f"/blocks/{index}")
    _check_unique(blocks)
    markdown = sum(len(block["text"]) for block in blocks if block["type"] == "markdown")
    if markdown > MARKDOWN_LIMIT or sum(map(len, _all_texts(blocks))) > ALL_BLOCKS_LIMIT:
        raise SlackError("msg_blocks_too_long")
    if expanded_count(blocks) > BLOCKS_LIMIT:
        raise SlackError("msg_blocks_too_many")


def _check_block(block: Json, pointer: str) -> None:
    kind = block.get("type")
    if kind not in _TYPES:
        raise invalid_blocks(f"unsupported type: {kind}", f"{pointer}/type")
    if len(str(block.get("block_id") or "")) > 255:
        raise invalid_blocks("must be less than 256 characters", f"{pointer}/block_id")
    check = {
        "markdown": _check_markdown,
        "header": _check_header,
        "section": _check_section,
        "actions": _check_elements,
        "context": _check_elements,
        "context_actions": _check_elements,
    }.get(kind)
    if check is not None:
        check(block, pointer)


def _check_markdown(block: Json, pointer: str) -> None:
    _check_length(block.get("text"), 1, MARKDOWN_LIMIT, f"{pointer}/text")


def _check_header(block: Json, pointer: str) -> None:
    _check_length((block.get("text") or {}).get("text"), 1, 150, f"{pointer}/text/text")


def _check_section(block: Json, pointer: str) -> None:
    if not block.get("text") and not block.get("fields"):
        raise invalid_blocks("missing required field: text", pointer)
    if block.get("text"):
        _check_length(block["text"].get("text"), 1, SECTION_LIMIT, f"{pointer}/text/text")
    for index, part in enumerate(block.get("fields") or []):
        _check_length(part.get("text"), 1, 2000, f"{pointer}/fields/{index}/text")
    if block.get("accessory"):
        _check_element(block["accessory"], f"{pointer}/accessory")


def _check_elements(block: Json, pointer: str) -> None:
    most = {"actions": 25, "context": 10, "context_actions": 5}[block["type"]]
    elements = block.get("elements") or []
    if not elements:
        raise invalid_blocks("no fewer than 1 items allowed", f"{pointer}/elements")
    if len(elements) > most:
        raise invalid_blocks(f"no more than {most} items allowed", f"{pointer}/elements")
    for index, element in enumerate(elements):
        _check_element(element, f"{pointer}/elements/{index}")


def _check_element(element: Json, pointer: str) -> None:
    kind = element.get("type")
    if len(str(element.get("action_id") or "")) > 255:
        raise invalid_blocks("must be less than 256 characters", f"{pointer}/action_id")
    if kind == "button":
        _check_length((element.get("text") or {}).get("text"), 1, 75, f"{pointer}/text/text")
        if len(element.get("value") or "") > 2000:
            raise invalid_blocks("must be less than 2001 characters", f"{pointer}/value")
    elif kind in {"static_select", "multi_static_select", "overflow", "radio_buttons"}:
        most = {"overflow": 5, "radio_buttons": 10}.get(kind, 100)
        options = element.get("options") or []
        if not options and not element.get("option_groups"):
            raise invalid_blocks("no fewer than 1 items allowed", f"{pointer}/options")
        if len(options) > most:
            raise invalid_blocks(f"no more than {most} items allowed", f"{pointer}/options")
        for n, option in enumerate(options):
            place = f"{pointer}/options/{n}"
            _check_length((option.get("text") or {}).get("text"), 1, 75, f"{place}/text/text")
            _check_length(option.get("value"), 1, 150, f"{place}/value")
    elif kind == "feedback_buttons":
        for name in ("positive_button", "negative_button"):
            button = element.get(name) or {}
            place = f"{pointer}/{name}"
            _check_length((button.get("text") or {}).get("text"), 1, 75, f"{place}/text/text")
            _check_length(button.get("value"), 1, 2000, f"{place}/value")
    elif kind in {"mrkdwn", "plain_text"}:
        _check_length(element.get("text"), 1, SECTION_LIMIT, f"{pointer}/text")


def _check_length(value: object, least: int, most: int, pointer: str) -> None:
    if not isinstance(value, str):
        raise invalid_blocks("missing required field", pointer)
    if len(value) < least:
        raise invalid_blocks(f"must be more than {least - 1} characters", pointer)
    if len(value) > most:
        raise invalid_blocks(f"must be less than {most + 1} characters", pointer)


def _check_unique(blocks: list[Json]) -> None:
    """block_ids differ within a message, action_ids within a block."""
    ids = [block["block_id"] for block in blocks if block.get("block_id")]
    if len(ids) != len(set(ids)):
        raise invalid_blocks("`block_id` already exists", "/blocks")
    for index, block in enumerate(blocks):
        actions = [e.get("action_id") for e in block.get("elements") or [] if e.get("action_id")]
        if len(actions) != len(set(actions)):
            raise invalid_blocks("`action_id` already exists", f"/blocks/{index}/elements")


def expanded_count(blocks: list[Json]) -> int:
    """How many blocks a message has once Slack rendered its markdown blocks.

    Each heading becomes a header, each rule a divider, each table a table; what stands between
    them becomes one rich text.
    """
    return sum(
        markdown_count(block["text"]) if block["type"] == "markdown" else 1 for block in blocks
    )


def markdown_count(markdown: str) -> int:
    """How many blocks Slack makes of a Markdown text."""
    own_blocks = {"heading_open", "hr", "table_open"}
    count, within_text = 0, False
    for token in _MARKDOWN.parse(markdown):
        if token.level != 0 or token.nesting == -1:
            continue
        if token.type in own_blocks:
            count, within_text = count + 1, False
        elif not within_text:
            count, within_text = count + 1, True
    return count


def _all_texts(value: object) -> Iterator[str]:
    """Every string under a `text` key."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "text" and isinstance(inner, str):
                yield inner
            else:
                yield from _all_texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _all_texts(inner)


def name_blocks(ids: Ids, blocks: list[Json]) -> None:
    """Give a block_id to those without; markdown blocks never keep theirs."""
    for block in blocks:
        if not block.get("block_id") or block.get("type") == "markdown":
            block["block_id"] = ids.next("blk")


def shown(message: Message) -> str:
    """The words of a message: of its stream, its markdown blocks or sections, else its text.

    Context, buttons and the like are dressing and left out.
    """
    if message.markdown_text is not None:
        return message.markdown_text
    if message.stream is not None:
        return message.stream.text
    parts = []
    for block in message.blocks:
        if block["type"] == "markdown":
            parts.append(block["text"])
        elif block["type"] in {"section", "header"} and block.get("text"):
            parts.append(block["text"]["text"])
    return "\n".join(parts) if parts else message.text


def notifications(
    text: str, blocks: list[Json], markdown_text: str | None = None
) -> list[Notification]:
    """Whom a message would notify.

    `<!channel>`, `<@U…>` and their like count wherever Slack's markup or Markdown is read: in the
    text (which is what notifications show), in mrkdwn objects and in Markdown. Plain `@channel`
    does not, unless the caller asks for `link_names` or `parse=full`.
    """
    sources = [text, markdown_text or ""]
    sources += [block["text"] for block in blocks if block["type"] == "markdown"]
    sources += list(_mrkdwn_texts(blocks))
    found = []
    for source in sources:
        code = [match.span() for match in _CODE.finditer(source)]
        for match in _MENTION.finditer(source):
            in_code = any(start <= match.start() < end for start, end in code)
            found.append(Notification(match[1], in_code))
    return found


def _mrkdwn_texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if value.get("type") == "mrkdwn":
            yield str(value.get("text") or "")
        elif value.get("type") == "user":
            yield f"<@{value.get('user_id')}>"
        elif value.get("type") == "broadcast":
            yield f"<!{value.get('range')}>"
        else:
            for inner in value.values():
                yield from _mrkdwn_texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _mrkdwn_texts(inner)
