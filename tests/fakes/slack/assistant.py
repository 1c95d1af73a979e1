"""What makes an app an agent: statuses, titles, prompts, sessions; its views; its token."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from tests.fakes.slack import oauth
from tests.fakes.slack.api import find_channel, find_message, method
from tests.fakes.slack.blocks import check_blocks
from tests.fakes.slack.errors import SlackError, invalid_arguments
from tests.fakes.slack.record import Call
from tests.fakes.slack.state import Channel, Json, Workspace

if TYPE_CHECKING:
    from tests.fakes.slack.server import SlackDouble


@method("auth.test")
def auth_test(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    return {
        "url": f"https://{workspace.domain}.slack.com/",
        "team": workspace.name,
        "user": workspace.bot.name,
        "team_id": workspace.id,
        "user_id": workspace.bot.id,
        "bot_id": workspace.bot_id,
        "is_enterprise_install": False,
    }


@method("auth.revoke")
def auth_revoke(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    if not call.flag("test"):
        slack.revoke(workspace)
    return {"revoked": not call.flag("test")}


@method("apps.connections.open")
def open_connection(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    if call.token != slack.app.app_token:
        raise SlackError("not_allowed_token_type")
    return {"url": slack.socket.new_url()}


@method("assistant.threads.setStatus", "assistant:write", "chat:write")
def set_status(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    channel, thread_ts = _thread(slack, workspace, call)
    messages = call.json("loading_messages") or []
    if len(messages) > 10:
        raise invalid_arguments("no more than 10 items allowed [json-pointer:/loading_messages]")
    if "status" not in call.args:
        raise invalid_arguments("missing required field: status")
    key = (channel.id, thread_ts)
    if call.text("status"):
        value = {"status": call.text("status"), "loading_messages": messages}
        workspace.statuses[key] = (slack.clock.time(), value)
    else:
        workspace.statuses.pop(key, None)
    return {}


@method("assistant.threads.setTitle", "assistant:write")
def set_title(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    channel, thread_ts = _thread(slack, workspace, call)
    if channel.kind != "im":
        raise SlackError("channel_not_found")
    workspace.titles[(channel.id, thread_ts)] = str(call.required("title"))
    return {}


@method("assistant.threads.setSuggestedPrompts", "assistant:write")
def set_prompts(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    channel = find_channel(slack, workspace, str(call.required("channel_id")))
    prompts = call.json("prompts") or []
    if not prompts or len(prompts) > 4:
        raise invalid_arguments("1 to 4 items allowed [json-pointer:/prompts]")
    for prompt in prompts:
        if not prompt.get("title") or not prompt.get("message"):
            raise invalid_arguments("missing required field [json-pointer:/prompts]")
    key = (channel.id, call.text("thread_ts") or None)
    workspace.prompts[key] = {"title": call.text("title"), "prompts": prompts}
    return {}


@method("agents.sessions.setStatus", "chat:write")
def set_session_status(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    channel = find_channel(slack, workspace, str(call.required("channel_id")), member=False)
    if workspace.bot.id not in channel.members:
        raise SlackError("not_authorized")
    status = str(call.required("status"))
    if status not in {"active", "processing", "suspended", "closed"}:
        raise SlackError("invalid_status")
    thread_ts = call.text("thread_ts")
    if not thread_ts:
        raise SlackError("thread_ts_required")
    session = workspace.sessions.setdefault(
        (channel.id, thread_ts), {"title": call.text("title")[:200]}
    )
    session["status"] = status
    answer: Json = {"status": status, "agent_status": status, "title": session["title"]}
    if "agent_session_stopped" not in slack.app.events:
        answer["warning"] = "missing_agent_session_stopped_event_subscription"
    return answer


@method("agents.sessions.rename", "chat:write")
def rename_session(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    channel = find_channel(slack, workspace, str(call.required("channel_id")))
    session = workspace.sessions.get((channel.id, call.text("thread_ts")))
    if session is None:
        raise SlackError("session_not_found")
    session["title"] = str(call.required("title"))[:200]
    return {"title": session["title"]}


@method("views.publish")
def publish_view(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    user = str(call.required("user_id"))
    if user not in workspace.users:
        raise invalid_arguments("invalid `user_id` [json-pointer:/user_id]")
    view = _view(call)
    if view.get("type") != "home":
        raise invalid_arguments("must be home [json-pointer:/view/type]")
    old = workspace.home_views.get(user)
    if call.text("hash") and old is not None and call.text("hash") != old["hash"]:
        raise SlackError("hash_conflict")
    full = slack.complete_view(workspace, view, old["id"] if old else None)
    workspace.home_views[user] = full
    return {"view": full}


@method("views.open")
def open_view(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    trigger = str(call.required("trigger_id"))
    began = slack.triggers.pop(trigger, None)
    if began is None:
        raise SlackError("invalid_trigger_id")
    if slack.clock.time() - began > 3:
        raise SlackError("expired_trigger_id")
    view = slack.complete_view(workspace, _view(call), None)
    workspace.modals.append(view)
    return {"view": view}


@method("views.update")
def update_view(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    view_id = str(call.required("view_id"))
    for index, old in enumerate(workspace.modals):
        if old["id"] == view_id:
            view = slack.complete_view(workspace, _view(call), view_id)
            workspace.modals[index] = view
            return {"view": view}
    raise SlackError("not_found")


@method("oauth.v2.access")
def oauth_access(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    client_id, client_secret = call.text("client_id"), call.text("client_secret")
    basic = call.text("basic_auth").removeprefix("Basic ")
    if basic:
        client_id, _, client_secret = base64.b64decode(basic).decode().partition(":")
    if client_id != slack.app.client_id:
        raise SlackError("invalid_client_id")
    if client_secret != slack.app.client_secret:
        raise SlackError("bad_client_secret")
    if call.text("grant_type") == "refresh_token":
        return oauth.refresh(slack, str(call.required("refresh_token")))
    return slack.redeem_code(str(call.required("code")), call.text("redirect_uri"))


def _thread(slack: SlackDouble, workspace: Workspace, call: Call) -> tuple[Channel, str]:
    channel = find_channel(slack, workspace, str(call.required("channel_id")))
    thread_ts = str(call.required("thread_ts"))
    try:
        return channel, find_message(channel, thread_ts).thread
    except SlackError:
        raise SlackError("invalid_thread_ts") from None


def _view(call: Call) -> Json:
    view = call.json("view")
    if not isinstance(view, dict) or not isinstance(view.get("blocks"), list):
        raise invalid_arguments("missing required field [json-pointer:/view/blocks]")
    if len(view["blocks"]) > 100:
        raise invalid_arguments("no more than 100 items allowed [json-pointer:/view/blocks]")
    if len(json.dumps(view).encode()) > 250_000:
        raise SlackError("view_too_large")
    for start in range(0, len(view["blocks"]), 50):
        check_blocks(view["blocks"][start : start + 50])
    return view
