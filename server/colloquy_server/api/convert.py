"""From rows to the API's messages, and back where a request names a user."""

from __future__ import annotations

from colloquy.api import admin_service_pb2 as admin
from colloquy.api import error_reason_pb2 as reasons
from colloquy.api import resources_pb2 as api
from colloquy.api import session_service_pb2 as sessions
from google.protobuf.timestamp_pb2 import Timestamp

from colloquy_server.api.emails import address
from colloquy_server.database import models
from colloquy_server.database.models import MICROS
from colloquy_server.database.repository.audit import EventRow
from colloquy_server.database.repository.quotas import Limits
from colloquy_server.database.repository.receipts import ContextReceipt
from colloquy_server.database.repository.sessions import SessionRow
from colloquy_server.database.repository.users import Author
from colloquy_server.database.rows import ConversationRow, MessageRow, UserRow
from colloquy_server.database.values import EventType
from colloquy_server.errors import InvalidField
from colloquy_server.providers.catalog import Model

_LAST_SECOND = 253_402_300_799
"""Of the year 9999, in which a Timestamp ends."""


def timestamp(time: int | None) -> Timestamp | None:
    """Microseconds since 1970 as a Timestamp."""
    if time is None:
        return None
    seconds, rest = divmod(time, MICROS)
    return Timestamp(seconds=seconds, nanos=rest * 1_000)


def micros(time: Timestamp, field: str) -> int:
    """Microseconds since 1970. Raises InvalidField for what protobuf says is no Timestamp."""
    if time.seconds > _LAST_SECOND or not 0 <= time.nanos < 1_000_000_000:
        raise InvalidField({field: "must be a time up to the year 9999"})
    return time.seconds * MICROS + time.nanos // 1_000


def user(row: models.User | UserRow) -> api.User:
    """A user."""
    return api.User(
        id=row.id,
        external_id=row.external_id or "",
        display_name=row.display_name,
        avatar_url=row.avatar_url,
    )


def author(named: api.User) -> Author:
    """Whom a request names to speak as. Raises InvalidField for an address that is none."""
    email = address(named.email)
    if named.email and not email:
        raise InvalidField({"email": "is no e-mail address"})
    return Author(named.id.lower(), named.external_id, named.display_name, named.avatar_url, email)


def session(row: SessionRow, current_id: str) -> sessions.Session:
    """A session; `current_id` is that of the one that the call was made in."""
    return sessions.Session(
        id=row.id,
        method=row.method,  # type: ignore[arg-type]
        user_agent=row.user_agent,
        create_time=timestamp(row.create_time),
        last_used_time=timestamp(row.last_used_time),
        expire_time=timestamp(row.expire_time),
        current=row.id == current_id,
    )


def conversation(row: ConversationRow) -> api.Conversation:
    """A conversation."""
    return api.Conversation(
        id=row.id,
        title=row.title,
        model=row.model,
        system_prompt=row.system_prompt,
        external_id=row.external_id or row.own_external_id or "",
        visibility=row.visibility,  # type: ignore[arg-type]
        creator=user(row.creator) if row.creator else None,
        participants=[user(each) for each in row.participants],
        message_count=row.message_count,
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        last_message_time=timestamp(row.last_message_time),
        archived=row.archived,
        pinned=row.pinned,
        unread_count=row.unread_count,
        replying=row.replying,
        expire_time=timestamp(row.expire_time),
    )


def webhook(row: models.Webhook) -> admin.Webhook:
    """A webhook, without its secret."""
    kinds = [kind for kind in EventType if row.event_types & 1 << kind]
    return admin.Webhook(
        id=row.id,
        account_id=row.account_id,
        url=row.url,
        event_types=kinds,  # type: ignore[arg-type]
        create_time=timestamp(row.create_time),
    )


def delivery(row: models.Delivery) -> admin.WebhookDelivery:
    """An event on its way, or given up."""
    return admin.WebhookDelivery(
        id=row.id,
        webhook_id=row.webhook_id,
        event_type=row.event_type,  # type: ignore[arg-type]
        conversation_id=row.conversation_id,
        create_time=timestamp(row.create_time),
        attempts=row.attempts,
        last_error=row.last_error,
    )


def attachment(row: models.Attachment) -> api.Attachment:
    """A file."""
    return api.Attachment(
        id=row.id,
        filename=row.filename,
        content_type=row.content_type,
        byte_size=row.byte_size,
        sha256=row.sha256,
        kind=row.kind,  # type: ignore[arg-type]
        create_time=timestamp(row.create_time),
    )


def message(row: MessageRow, content: str | None = None) -> api.Message:
    """A message; `content` stands in for a live reply's saved text."""
    is_user = row.role == models.Role.USER
    result = api.Message(
        id=row.id,
        conversation_id=row.conversation_id,
        role=row.role,  # type: ignore[arg-type]
        author=user(row.author) if is_user and row.author else None,
        content=row.content if content is None else content,
        attachments=[attachment(file) for file in row.attachments],
        state=row.state,  # type: ignore[arg-type]
        attempt=row.attempt,
        reply_to=row.reply_to or "",
        superseded=row.superseded,
        model=row.model,
        requested_model=row.asked_for,
        finish_reason=row.finish_reason,
        rating=row.rating,  # type: ignore[arg-type]
        rating_comment=row.rating_comment,
        deleted=row.deleted,
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
    )
    if row.error_reason:
        result.error.reason = reasons.ErrorReason.Value(f"ERROR_REASON_{row.error_reason}")
        result.error.message = row.error_message
    if row.input_tokens is not None or row.output_tokens is not None:
        result.usage.input_tokens = row.input_tokens or 0
        result.usage.output_tokens = row.output_tokens or 0
        result.usage.cost_usd = row.cost_usd or 0.0
    return result


def receipt(row: ContextReceipt) -> api.ContextReceipt:
    """What a reply's model was given."""
    return api.ContextReceipt(
        message_ids=row.message_ids,
        left_out=[
            api.ContextReceipt.LeftOut(
                message_id=left.message_id, attachment_id=left.attachment_id, reason=left.reason
            )
            for left in row.left_out
        ],
        estimated_input_tokens=row.estimated_tokens,
    )


def limits(quotas: admin.Quotas) -> Limits:
    """How much there may be, as a request says it."""
    return Limits(quotas.file_bytes, quotas.conversations, quotas.queued_replies)


def _quotas(row: models.Quota) -> admin.Quotas:
    return admin.Quotas(
        file_bytes=row.max_file_bytes,
        conversations=row.max_conversations,
        queued_replies=row.max_queued_replies,
    )


def account(row: models.Account) -> admin.Account:
    """An account."""
    return admin.Account(
        id=row.id,
        name=row.name,
        external_id=row.external_id or "",
        create_time=timestamp(row.create_time),
        default_visibility=row.default_visibility,  # type: ignore[arg-type]
        quotas=_quotas(row.quota),
        retention_days=row.retention_days,
    )


def api_key(row: models.ApiKey) -> admin.ApiKey:
    """A key whose user is loaded; never its secret."""
    has_user = row.role != models.KeyRole.SERVICE
    return admin.ApiKey(
        id=row.id,
        account_id=row.account_id,
        name=row.name,
        role=row.role,  # type: ignore[arg-type]
        user=user(row.user) if has_user else None,
        create_time=timestamp(row.create_time),
        expire_time=timestamp(row.expire_time),
        revoke_time=timestamp(row.revoke_time),
        last_used_time=timestamp(row.last_used_time),
        quotas=_quotas(row.quota) if row.quota else None,
    )


def audit_event(row: EventRow) -> admin.AuditEvent:
    """That somebody did something."""
    return admin.AuditEvent(**{**row._asdict(), "time": timestamp(row.time)})


_KINDS = {
    "image": api.Attachment.KIND_IMAGE,
    "audio": api.Attachment.KIND_AUDIO,
    "document": api.Attachment.KIND_DOCUMENT,
}


def model(entry: Model, *, is_available: bool) -> api.Model:
    """A model of the catalogue."""
    return api.Model(
        id=entry.id,
        provider=entry.provider.id,
        available=is_available,
        input_kinds=sorted(_KINDS[kind] for kind in entry.input_kinds),
        context_window=entry.context_window,
        max_output_tokens=entry.max_output_tokens,
        input_price=entry.input_price,
        output_price=entry.output_price,
    )
