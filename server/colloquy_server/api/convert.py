"""From rows to the API's messages, and back where a request names a user."""

from __future__ import annotations

from colloquy.api import admin_service_pb2 as admin
from colloquy.api import error_reason_pb2 as reasons
from colloquy.api import resources_pb2 as api
from google.protobuf.timestamp_pb2 import Timestamp

from colloquy_server.database import models
from colloquy_server.database.models import MICROS
from colloquy_server.database.repository.access import Author
from colloquy_server.database.repository.receipts import ContextReceipt
from colloquy_server.database.rows import ConversationRow, MessageRow, UserRow


def timestamp(micros: int | None) -> Timestamp | None:
    """Microseconds since 1970 as a Timestamp."""
    if micros is None:
        return None
    seconds, rest = divmod(micros, MICROS)
    return Timestamp(seconds=seconds, nanos=rest * 1_000)


def user(row: models.User | UserRow) -> api.User:
    """A user."""
    return api.User(
        id=row.id,
        external_id=row.external_id or "",
        display_name=row.display_name,
        avatar_url=row.avatar_url,
    )


def author(named: api.User) -> Author:
    """Whom a request names to speak as."""
    return Author(named.id.lower(), named.external_id, named.display_name, named.avatar_url)


def conversation(row: ConversationRow) -> api.Conversation:
    """A conversation."""
    return api.Conversation(
        id=row.id,
        title=row.title,
        model=row.model,
        system_prompt=row.system_prompt,
        external_id=row.external_id or "",
        participants=[user(each) for each in row.participants],
        message_count=row.message_count,
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        last_message_time=timestamp(row.last_message_time),
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
        finish_reason=row.finish_reason,
        rating=row.rating,  # type: ignore[arg-type]
        rating_comment=row.rating_comment,
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


def account(row: models.Account) -> admin.Account:
    """An account."""
    return admin.Account(
        id=row.id,
        name=row.name,
        external_id=row.external_id or "",
        create_time=timestamp(row.create_time),
    )


def api_key(row: models.ApiKey) -> admin.ApiKey:
    """A key whose user is loaded; never its secret."""
    is_member = row.role == models.KeyRole.MEMBER
    return admin.ApiKey(
        id=row.id,
        account_id=row.account_id,
        name=row.name,
        role=row.role,  # type: ignore[arg-type]
        user=user(row.user) if is_member else None,
        create_time=timestamp(row.create_time),
        expire_time=timestamp(row.expire_time),
        revoke_time=timestamp(row.revoke_time),
    )
