"""Files: their bytes, their names, which messages have them, and what was extracted from them.

The rules, which hold however many processes work at once:

- Bytes get into the store under a key of their own (`begin`), and count once `finish` says so.
- What nothing refers to any more is taken out of the tables first, its key left in `removals`; the
  object goes after the commit, and the key then (`removed`). The same bytes uploaded meanwhile have
  another key.
- Whoever puts a file to use touches its row; whoever removes one locks the row first and looks
  then, so one of the two sees the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Delete, bindparam, delete, select, tuple_, update

from colloquy_server.database.models import (
    MICROS,
    Attachment,
    Blob,
    Extraction,
    Message,
    MessageAttachment,
    Removal,
    db_now,
    new_id,
)
from colloquy_server.database.repository import quotas
from colloquy_server.database.repository.changes import (
    FRESH,
    NO_SYNC,
    hold_account,
    insert_new,
    now,
)
from colloquy_server.database.repository.quotas import FREE, Charge
from colloquy_server.database.rows import MessageRow
from colloquy_server.database.transactions import Session
from colloquy_server.errors import NotFound

UNUSED_KEPT = 86_400 * MICROS
"""How long a file that no message uses is kept after it was uploaded."""

_SWEPT_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file whose bytes are known. `width` and `height` are a picture's, in pixels, else 0."""

    sha256: str
    byte_size: int
    filename: str
    content_type: str
    kind: int
    width: int = 0
    height: int = 0
    uploader_id: str = ""


def new_key(account_id: str, file: NewFile) -> str:
    """A key for a file's bytes that nothing had before."""
    return f"{account_id}/{file.sha256}-{new_id()}"


def begin(
    s: Session, account_id: str, file: NewFile, key: str, charge: Charge = FREE
) -> tuple[str, bool]:
    """The key for a file's bytes, which is `key` if they are new, and whether the store has them
    already. Raises NotFound when the account is gone, and QuotaExceeded for bytes that are new to
    their uploader."""
    blob = _blob(s, account_id, file.sha256)
    if blob is not None and _is_of_others(s, file):
        quotas.count(s, account_id, charge, known_bytes=file.byte_size)
    if blob is None:
        hold_account(s, account_id)
        is_new = insert_new(
            s,
            Blob,
            account_id=account_id,
            sha256=file.sha256,
            key=key,
            byte_size=file.byte_size,
            is_stored=False,
            touch_time=now(s),
            api_key_id=charge.api_key_id,
        )
        if is_new:
            quotas.count(s, account_id, charge, file_bytes=file.byte_size)
        blob = _blob(s, account_id, file.sha256)
        assert blob is not None
    return blob.key, blob.is_stored


_UPLOADERS = (
    select(Attachment.uploader_id).where(Attachment.sha256 == bindparam("wanted")).distinct()
)


def _is_of_others(s: Session, file: NewFile) -> bool:
    """Whether others uploaded these bytes, and this uploader has not yet."""
    uploaders = s.run(_UPLOADERS, {"wanted": file.sha256}).scalars()
    return bool(uploaders) and file.uploader_id not in uploaders


def _blob(s: Session, account_id: str, sha256: str) -> Blob | None:
    """The row of these bytes, touched and held until the transaction ends."""
    return s.scalars(
        update(Blob)
        .where(Blob.account_id == account_id, Blob.sha256 == sha256)
        .values(touch_time=db_now())
        .returning(Blob),
        execution_options=FRESH,
    ).one_or_none()


def finish(s: Session, account_id: str, file: NewFile, key: str) -> Attachment | None:
    """Records that the bytes are in the store under `key`, and the file with its name; the one
    that is there already when the same was uploaded before, as it is understood now.

    None when the bytes were let go meanwhile, as of an upload that took a day, or of one together
    with another that broke off: begin again.
    """
    blob = _blob(s, account_id, file.sha256)
    if blob is None or blob.key != key:
        _let_go(s, key)
        return None
    s.execute(
        update(Blob)
        .where(Blob.account_id == account_id, Blob.sha256 == file.sha256)
        .values(is_stored=True),
        execution_options=NO_SYNC,
    )
    time = now(s)
    insert_new(
        s,
        Attachment,
        id=new_id(),
        account_id=account_id,
        sha256=file.sha256,
        filename=file.filename,
        uploader_id=file.uploader_id,
        content_type=file.content_type,
        kind=file.kind,
        byte_size=file.byte_size,
        width=file.width,
        height=file.height,
        create_time=time,
        touch_time=time,
    )
    return s.scalars(
        update(Attachment)
        .where(
            Attachment.account_id == account_id,
            Attachment.uploader_id == file.uploader_id,
            Attachment.sha256 == file.sha256,
            Attachment.filename == file.filename,
        )
        .values(
            touch_time=time,
            content_type=file.content_type,
            kind=file.kind,
            width=file.width,
            height=file.height,
        )
        .returning(Attachment),
        execution_options=FRESH,
    ).one()


def abandon(s: Session, account_id: str, file: NewFile, key: str) -> None:
    """Takes back what `begin` did for an upload that did not come to its end."""
    blob = _blob(s, account_id, file.sha256)
    if blob is not None and blob.key == key:
        if blob.is_stored:
            return
        _delete(s, delete(Blob).where(Blob.account_id == account_id, Blob.sha256 == file.sha256))
    _let_go(s, key)


def _delete(s: Session, which: Delete) -> list[str]:
    """Deletes rows of bytes, which from now on count for nobody; returns where the bytes are."""
    gone = s.execute(
        which.returning(Blob.key, Blob.account_id, Blob.api_key_id, Blob.byte_size),
        execution_options=NO_SYNC,
    ).all()
    for _, account_id, api_key_id, byte_size in gone:
        quotas.count(s, account_id, Charge(api_key_id), file_bytes=-byte_size)
    return [row[0] for row in gone]


def _let_go(s: Session, key: str) -> None:
    """Leaves an object, which may be there, to be removed."""
    insert_new(s, Removal, key=key)


def get(s: Session, attachment_id: str) -> tuple[Attachment, str]:
    """A file and the key of its bytes. Raises NotFound."""
    row = s.execute(
        select(Attachment, Blob.key).join(Blob, _same_bytes()).where(Attachment.id == attachment_id)
    ).one_or_none()
    if row is None:
        raise NotFound("ATTACHMENT")
    return row[0], row[1]


def _same_bytes() -> ColumnElement[bool]:
    return (Blob.account_id == Attachment.account_id) & (Blob.sha256 == Attachment.sha256)


# --- messages and their files ---------------------------------------------------------------------


_FILES = (
    select(MessageAttachment.message_id, Attachment)
    .join(Attachment, Attachment.id == MessageAttachment.attachment_id)
    .where(MessageAttachment.message_id.in_(bindparam("messages", expanding=True)))
    .order_by(MessageAttachment.message_id, MessageAttachment.position)
)


def files_of(s: Session, message_ids: Collection[str]) -> Mapping[str, list[Attachment]]:
    """The files of messages, by message, for those that have some."""
    found: dict[str, list[Attachment]] = defaultdict(list)
    if message_ids:
        for message_id, attachment in s.execute(_FILES, {"messages": list(message_ids)}):
            found[message_id].append(attachment)
    return found


def load(s: Session, messages: Sequence[MessageRow]) -> list[MessageRow]:
    """The same messages, with their files."""
    having = [message.id for message in messages if message.attachment_count]
    if not having:
        return list(messages)
    files = files_of(s, having)
    return [message._replace(attachments=files.get(message.id, ())) for message in messages]


def resolve(s: Session, attachment_ids: Sequence[str]) -> list[Attachment]:
    """The files with these ids, in this order; they are held until the transaction ends, so that
    none is removed meanwhile. Raises NotFound."""
    if not attachment_ids:
        return []
    rows = s.scalars(
        update(Attachment)
        .where(Attachment.id.in_(attachment_ids))
        .values(touch_time=db_now())
        .returning(Attachment),
        execution_options=FRESH,
    )
    found = {row.id: row for row in rows}
    if not found.keys() >= set(attachment_ids):
        raise NotFound("ATTACHMENT")
    return [found[attachment_id] for attachment_id in attachment_ids]


def attach(s: Session, message: MessageRow, attachments: Sequence[Attachment]) -> None:
    """Gives a message that is stored its files."""
    if not attachments:
        return
    s.add_all(
        MessageAttachment(
            account_id=message.account_id,
            message_id=message.id,
            position=position,
            attachment_id=attachment.id,
        )
        for position, attachment in enumerate(attachments, 1)
    )
    s.flush()


def keys(s: Session, attachment_ids: Collection[str]) -> dict[str, str]:
    """Where the store has the bytes of these files, by id."""
    rows = s.execute(
        select(Attachment.id, Blob.key)
        .join(Blob, _same_bytes())
        .where(Attachment.id.in_(attachment_ids))
    )
    return {row[0]: row[1] for row in rows}


# --- what was extracted from files ----------------------------------------------------------------


def extraction(s: Session, attachment: Attachment, form: str) -> Extraction | None:
    """What was extracted from a file taken as `form`, if that was done."""
    return s.scalars(
        select(Extraction).where(
            Extraction.account_id == attachment.account_id,
            Extraction.sha256 == attachment.sha256,
            Extraction.content_type == form,
        )
    ).one_or_none()


def save_extraction(
    s: Session, attachment: Attachment, form: str, content: str, problem: str
) -> None:
    """Stores what was extracted from a file taken as `form`; what is there already stays. A file
    that is gone by now is left alone."""
    if _blob(s, attachment.account_id, attachment.sha256) is None:
        return
    insert_new(
        s,
        Extraction,
        account_id=attachment.account_id,
        sha256=attachment.sha256,
        content_type=form,
        content=content,
        problem=problem,
    )


# --- removing -------------------------------------------------------------------------------------


def of_conversation(s: Session, conversation_id: str) -> list[str]:
    """The files that a conversation's messages have."""
    return list(
        s.scalars(
            select(MessageAttachment.attachment_id)
            .join(Message, Message.id == MessageAttachment.message_id)
            .where(Message.conversation_id == conversation_id)
            .distinct()
        )
    )


def remove_unused(
    s: Session, attachment_ids: Collection[str], untouched_since: int | None = None
) -> None:
    """Takes those of the files out of the tables that no message has, and that nobody touched
    since the given time; bytes that no file refers to any more go to `removals`."""
    with s.unlimited():
        _remove_unused(s, attachment_ids, untouched_since)


def _remove_unused(
    s: Session, attachment_ids: Collection[str], untouched_since: int | None
) -> None:
    locked = s.execute(
        select(Attachment.id, Attachment.account_id, Attachment.sha256)
        .where(Attachment.id.in_(attachment_ids))
        .order_by(Attachment.id)
        .with_for_update()
    ).all()
    # A second statement, which sees what was committed before the rows were ours.
    used = select(MessageAttachment.attachment_id).where(
        MessageAttachment.attachment_id == Attachment.id
    )
    unused = delete(Attachment).where(Attachment.id.in_([row[0] for row in locked]), ~used.exists())
    if untouched_since is not None:
        unused = unused.where(Attachment.touch_time < untouched_since)
    s.execute(unused, execution_options=NO_SYNC)
    _remove_blobs(s, {(row[1], row[2]) for row in locked}, None)


def _remove_blobs(
    s: Session, hashes: Collection[tuple[str, str]], untouched_since: int | None
) -> None:
    if not hashes:
        return
    key = tuple_(Blob.account_id, Blob.sha256)
    locked = [
        (row[0], row[1])
        for row in s.execute(
            select(Blob.account_id, Blob.sha256)
            .where(key.in_(sorted(hashes)))
            .order_by(Blob.account_id, Blob.sha256)
            .with_for_update()
        )
    ]
    if not locked:
        return
    referred = select(Attachment.id).where(_same_bytes())
    unreferred = delete(Blob).where(key.in_(locked), ~referred.exists())
    if untouched_since is not None:
        unreferred = unreferred.where(Blob.touch_time < untouched_since)
    else:  # an upload that is under way will refer to it
        unreferred = unreferred.where(Blob.is_stored.is_(True))
    s.add_all(Removal(key=found) for found in _delete(s, unreferred))
    s.flush()


def remove_account(s: Session, account_id: str) -> None:
    """Takes all files of an account out of the tables; its messages are gone already."""
    keys = s.scalars(select(Blob.key).where(Blob.account_id == account_id)).all()
    for table in (Attachment, Extraction, Blob):
        s.execute(delete(table).where(table.account_id == account_id), execution_options=NO_SYNC)
    s.add_all(Removal(key=key) for key in keys)
    s.flush()


def sweep(s: Session) -> int:
    """Takes out of the tables what nobody has used for a day: files without a message, and bytes
    of uploads that broke off. Returns how many there were, or a part of them."""
    since = now(s) - UNUSED_KEPT
    used = select(MessageAttachment.attachment_id).where(
        MessageAttachment.attachment_id == Attachment.id
    )
    files = list(
        s.scalars(
            select(Attachment.id)
            .where(Attachment.touch_time < since, ~used.exists())
            .limit(_SWEPT_AT_ONCE)
        )
    )
    if files:
        remove_unused(s, files, since)
    referred = select(Attachment.id).where(_same_bytes())
    blobs = s.execute(
        select(Blob.account_id, Blob.sha256)
        .where(Blob.touch_time < since, ~referred.exists())
        .limit(_SWEPT_AT_ONCE)
    ).all()
    _remove_blobs(s, {(row[0], row[1]) for row in blobs}, since)
    return len(files) + len(blobs)


def removals(s: Session, limit: int) -> list[str]:
    """Keys of objects that are to be removed from the store."""
    return list(s.scalars(select(Removal.key).order_by(Removal.key).limit(limit)))


def removed(s: Session, gone: Collection[str]) -> None:
    """Notes that objects are gone from the store."""
    s.execute(delete(Removal).where(Removal.key.in_(gone)), execution_options=NO_SYNC)
