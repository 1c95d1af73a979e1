"""Text and Block Kit as HTML, near enough to what Slack's client makes of them."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

from markdown_it import MarkdownIt

from tests.fakes.slack.state import Json, Workspace

# No raw HTML: what a model writes must not become part of the page.
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
_TOKEN = re.compile(
    r"&lt;([@!#][^&<>\s|]+|https?://[^&<>\s|]+|mailto:[^&<>\s|]+)(?:\|([^&<>]+))?&gt;"
)
_CODE = re.compile(r"```\n?(.*?)\n?```|`([^`\n]+)`", re.DOTALL)
_SPANS = (
    (re.compile(r"(?<![\w*])\*([^*\n]+)\*(?![\w*])"), "strong"),
    (re.compile(r"(?<![\w_])_([^_\n]+)_(?![\w_])"), "em"),
    (re.compile(r"(?<![\w~])~([^~\n]+)~(?![\w~])"), "s"),
)


def markdown_html(workspace: Workspace, text: str) -> str:
    """Standard Markdown, as markdown blocks and streams have it."""
    return _tokens(workspace, _MARKDOWN.render(text))


def mrkdwn_html(workspace: Workspace, text: str) -> str:
    """Slack's own markup, as people's messages and sections have it."""
    # It comes with &, < and > escaped, but for what is markup: that is escaped here too.
    escaped = text.replace("<", "&lt;").replace(">", "&gt;")
    parts, end = [], 0
    for match in _CODE.finditer(escaped):
        parts.append(_spans(workspace, escaped[end : match.start()]))
        block, inline = match[1], match[2]
        parts.append(
            f"<code>{inline}</code>" if block is None else f"<pre><code>{block}</code></pre>"
        )
        end = match.end()
    parts.append(_spans(workspace, escaped[end:]))
    return "".join(parts)


def blocks_html(workspace: Workspace, blocks: list[Json]) -> str:
    return "".join(_BLOCKS.get(block["type"], _unknown)(workspace, block) for block in blocks)


def text_html(workspace: Workspace, value: Json) -> str:
    """A text object."""
    if value.get("type") == "mrkdwn":
        return mrkdwn_html(workspace, value["text"])
    return html.escape(str(value.get("text", "")))


def _spans(workspace: Workspace, escaped: str) -> str:
    for pattern, tag in _SPANS:
        escaped = pattern.sub(rf"<{tag}>\1</{tag}>", escaped)
    return _tokens(workspace, escaped).replace("\n", "<br>")


def _tokens(workspace: Workspace, escaped: str) -> str:
    """Mentions and links, in HTML where their brackets are escaped."""

    def replaced(match: re.Match[str]) -> str:
        token, label = match[1], match[2]
        if token.startswith("@"):
            user = workspace.users.get(token[1:])
            name = user.shown_name if user else token[1:]
            return f'<span class="mention">@{html.escape(name)}</span>'
        if token.startswith("!"):
            return f'<span class="mention all">@{token[1:]}</span>'
        if token.startswith("#"):
            channel = workspace.channels.get(token[1:])
            return (
                f'<span class="mention">#{html.escape(channel.name if channel else token)}</span>'
            )
        return f'<a href="{token}">{label or token}</a>'

    return _TOKEN.sub(replaced, escaped)


def _text_block(workspace: Workspace, block: Json) -> str:
    return f'<div class="text">{markdown_html(workspace, block["text"])}</div>'


def _header(workspace: Workspace, block: Json) -> str:
    return f'<div class="text"><h2>{text_html(workspace, block["text"])}</h2></div>'


def _section(workspace: Workspace, block: Json) -> str:
    texts = [block["text"]] if block.get("text") else []
    said = "<br>".join(
        text_html(workspace, value) for value in [*texts, *(block.get("fields") or [])]
    )
    accessory = block.get("accessory")
    beside = f'<div class="actions">{_element(workspace, accessory)}</div>' if accessory else ""
    return f'<div class="text">{said}</div>{beside}'


def _divider(workspace: Workspace, block: Json) -> str:
    return '<hr class="divider">'


def _context(workspace: Workspace, block: Json) -> str:
    said = " ".join(text_html(workspace, e) for e in block["elements"] if e["type"] != "image")
    return f'<div class="context">{said}</div>'


def _actions(workspace: Workspace, block: Json) -> str:
    inside = "".join(_element(workspace, element) for element in block["elements"])
    return f'<div class="actions">{inside}</div>'


def _rich_text(workspace: Workspace, block: Json) -> str:
    """People's messages: their text says the same, and is what is shown."""
    return ""


def _unknown(workspace: Workspace, block: Json) -> str:
    return f'<div class="context">[{html.escape(block["type"])}]</div>'


def _element(workspace: Workspace, element: Json) -> str:
    action = html.escape(str(element.get("action_id", "")))
    if element["type"] == "button":
        style = element.get("style", "")
        label = text_html(workspace, element["text"])
        return f'<button class="{style}" data-action="{action}">{label}</button>'
    if element["type"] == "feedback_buttons":
        return (
            f'<button class="thumb" data-rate="good" data-action="{action}">👍</button>'
            f'<button class="thumb" data-rate="bad" data-action="{action}">👎</button>'
        )
    if element["type"] in {"static_select", "overflow"}:
        chosen = (element.get("initial_option") or {}).get("value")
        groups = element.get("option_groups") or [{"options": element.get("options", [])}]
        options = "".join(
            f'<option value="{html.escape(option["value"])}"'
            f"{' selected' if option['value'] == chosen else ''}>"
            f"{text_html(workspace, option['text'])}</option>"
            for group in groups
            for option in group["options"]
        )
        blank = "" if chosen else "<option></option>"
        return f'<select data-action="{action}">{blank}{options}</select>'
    return f"<span>[{html.escape(element['type'])}]</span>"


_BLOCKS: dict[str, Callable[[Workspace, Json], str]] = {
    "markdown": _text_block,
    "header": _header,
    "section": _section,
    "divider": _divider,
    "context": _context,
    "actions": _actions,
    "context_actions": _actions,
    "rich_text": _rich_text,
}
