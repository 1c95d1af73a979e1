"""conversations.*, users.*, team.info, bots.info, reactions.*: where and who."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fakes.slack.api import find_channel, find_message, method
from tests.fakes.slack.errors import SlackError
from tests.fakes.slack.record import Call
from tests.fakes.slack.state import Channel, Json, Message, User, Workspace

if TYPE_CHECKING:
    from tests.fakes.slack.server import SlackDouble

_HISTORY = {
    "channel": "channels:history",
    "group": "groups:history",
    "im": "im:history",
    "mpim": "mpim:history",
}


@method("conversations.history")
def history(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    channel = _readable(slack, workspace, call)
    messages = [m for m in channel.messages.values() if not m.is_reply or m.broadcast]
    return _page(slack, workspace, call, list(reversed(messages)))


@method("conversations.replies")
def replies(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    channel = _readable(slack, workspace, call)
    ts = str(call.required("ts"))
    asked = channel.messages.get(ts)
    if asked is None or asked.deleted:
        raise SlackError("thread_not_found")
    thread = channel.in_thread(asked.thread)
    page = _page(slack, workspace, call, [message for message in thread if message.is_reply])
    # The root comes with every page, whatever is asked for.
    root = slack.messages.to_json(workspace, thread[0], metadata=call.flag("include_all_metadata"))
    page["messages"].insert(0, root)
    return page


@method("conversations.info", "channels:read", "groups:read", "im:read", "mpim:read")
def info(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    name = str(call.required("channel"))
    channel = find_channel(slack, workspace, name, member=False)
    value = channel.to_json()
    value["is_member"] = workspace.bot.id in channel.members
    if channel.kind == "im":
        value["user"] = next(iter(channel.members - {workspace.bot.id}), "")
    return {"channel": value}


@method("conversations.list", "channels:read", "groups:read", "im:read", "mpim:read")
def list_conversations(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    visible = [
        channel.to_json()
        for channel in workspace.channels.values()
        if channel.kind == "channel" or workspace.bot.id in channel.members
    ]
    return {"channels": visible, "response_metadata": {"next_cursor": ""}}


@method("conversations.members", "channels:read", "groups:read", "im:read", "mpim:read")
def members(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    channel = find_channel(slack, workspace, str(call.required("channel")), member=False)
    everybody = sorted(channel.members)
    start, limit = int(call.text("cursor") or 0), int(call.args.get("limit") or 100)
    if not 0 < limit <= 1000:
        raise SlackError("invalid_limit")
    end = start + min(limit, slack.limits.members_at_once)
    more = str(end) if end < len(everybody) else ""
    return {"members": everybody[start:end], "response_metadata": {"next_cursor": more}}


@method("conversations.open", "im:write", "mpim:write", "groups:write", "channels:manage")
def open_conversation(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    if call.text("channel"):
        channel = find_channel(slack, workspace, call.text("channel"))
    else:
        users = str(call.required("users")).split(",")
        if len(users) != 1:
            raise SlackError("method_not_supported_for_channel_type")
        if users[0] not in workspace.users:
            raise SlackError("user_not_found")
        channel = slack.direct_channel(workspace, workspace.users[users[0]])
    return {"channel": channel.to_json() if call.flag("return_im") else {"id": channel.id}}


@method("users.info", "users:read")
def user_info(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    user = workspace.users.get(str(call.required("user")))
    if user is None:
        raise SlackError("user_not_found")
    return {"user": _shown(user, workspace)}


@method("users.list", "users:read")
def user_list(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    people = [_shown(user, workspace) for user in workspace.users.values()]
    return {"members": people, "response_metadata": {"next_cursor": ""}}


def _shown(user: User, workspace: Workspace) -> Json:
    """A person as the app may see them: their address only with a scope of its own."""
    value = user.to_json()
    if "users:read.email" not in workspace.scopes:
        del value["profile"]["email"]
    return value


@method("usergroups.list", "usergroups:read")
def group_list(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    groups = [{"id": id_, "handle": handle} for id_, handle in workspace.groups.items()]
    return {"usergroups": groups}


@method("team.info", "team:read")
def team_info(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    team = {
        "id": workspace.id,
        "name": workspace.name,
        "domain": workspace.domain,
        "url": f"https://{workspace.domain}.slack.com/",
        "icon": {"image_default": True},
    }
    return {"team": team}


@method("bots.info", "users:read")
def bot_info(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    bot = call.text("bot") or workspace.bot_id
    if bot != workspace.bot_id:
        raise SlackError("bot_not_found")
    value = {
        "id": workspace.bot_id,
        "deleted": False,
        "name": slack.app.name,
        "app_id": slack.app.id,
        "user_id": workspace.bot.id,
        "icons": {},
    }
    return {"bot": value}


@method("reactions.add", "reactions:write")
def add_reaction(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    channel, message, name = _reaction(slack, workspace, call)
    users = message.reactions.setdefault(name, [])
    if workspace.bot.id in users:
        raise SlackError("already_reacted")
    users.append(workspace.bot.id)
    slack.events.reaction(workspace, channel, message, workspace.bot, name, "added")
    return {}


@method("reactions.remove", "reactions:write")
def remove_reaction(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    channel, message, name = _reaction(slack, workspace, call)
    users = message.reactions.get(name, [])
    if workspace.bot.id not in users:
        raise SlackError("no_reaction")
    users.remove(workspace.bot.id)
    if not users:
        del message.reactions[name]
    slack.events.reaction(workspace, channel, message, workspace.bot, name, "removed")
    return {}


def _reaction(slack: SlackDouble, workspace: Workspace, call: Call) -> tuple[Channel, Message, str]:
    name = str(call.required("name")).strip(":")
    channel = find_channel(slack, workspace, str(call.required("channel")))
    message = find_message(channel, str(call.required("timestamp")))
    if not name.replace("_", "").replace("-", "").replace("+", "").isalnum():
        raise SlackError("invalid_name")
    return channel, message, name


def _readable(slack: SlackDouble, workspace: Workspace, call: Call) -> Channel:
    channel = find_channel(slack, workspace, str(call.required("channel")))
    scope = _HISTORY[channel.kind]
    if scope not in workspace.scopes:
        provided = ",".join(sorted(workspace.scopes))
        raise SlackError("missing_scope", needed=scope, provided=provided)
    return channel


def _page(slack: SlackDouble, workspace: Workspace, call: Call, messages: list[Message]) -> Json:
    """A page of messages; metadata only when asked for."""
    most = 15 if slack.limits.restricted_history else 1000
    wanted = call.args.get("limit")
    # Without a limit Slack gives 100 of a channel, and up to 1,000 of a thread.
    usual = 100 if call.method == "conversations.history" else most
    limit = min(int(wanted or usual), most)
    if limit < 1:
        raise SlackError("invalid_limit")
    start = int(call.args.get("cursor") or 0)
    oldest, latest = call.text("oldest"), call.text("latest")
    inclusive = call.flag("inclusive")
    chosen = [
        message
        for message in messages
        if not message.deleted
        and (not oldest or message.ts > oldest or (inclusive and message.ts == oldest))
        and (not latest or message.ts < latest or (inclusive and message.ts == latest))
    ]
    more = len(chosen) > start + limit
    answer: Json = {
        "messages": [
            slack.messages.to_json(workspace, message, metadata=call.flag("include_all_metadata"))
            for message in chosen[start : start + limit]
        ],
        "has_more": more,
    }
    if more:
        answer["response_metadata"] = {"next_cursor": str(start + limit)}
    return answer
