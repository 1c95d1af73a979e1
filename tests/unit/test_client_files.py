"""Files on their way up and down."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from pathlib import Path
from typing import cast

import pytest
from colloquy import ConversationClient
from colloquy.api.attachment_service_pb2 import DownloadAttachmentResponse
from colloquy.api.resources_pb2 import Attachment, Message
from colloquy.errors import ServerError
from colloquy.file_transfer import Download, Upload
from colloquy.terminal.attachments import save_attachments

BODY = bytes(range(256)) * 3000


class Pipe(io.BytesIO):
    """A file that can be read once."""

    def seekable(self) -> bool:
        return False


def sent(upload: Upload) -> tuple[str, str, bytes]:
    """Filename, checksum and bytes as a server gets them."""
    requests = list(upload.requests())
    assert [r.HasField("header") for r in requests] == [True] + [False] * (len(requests) - 1)
    assert all(len(request.chunk) <= 256 * 1024 for request in requests)
    header = requests[0].header
    return header.filename, header.sha256, b"".join(request.chunk for request in requests)


def test_a_path_is_sent_in_chunks_with_its_name_and_checksum(tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(BODY)
    with Upload(path) as upload:
        assert sent(upload) == ("data.bin", hashlib.sha256(BODY).hexdigest(), BODY)
        assert upload.rewind()
        assert sent(upload)[2] == BODY


def test_an_open_file_is_sent_from_where_it_stands_and_stays_open() -> None:
    file = io.BytesIO(b"skipped" + BODY)
    file.seek(7)
    with Upload(file, "named.bin", "application/x-test") as upload:
        assert sent(upload) == ("named.bin", hashlib.sha256(BODY).hexdigest(), BODY)
    assert not file.closed


@pytest.mark.parametrize(
    ("name", "told", "sent"),
    [("a.mp3", "", "audio/mpeg"), ("a.mp3", "x/y", "x/y"), ("a", "", "")],
)
def test_a_name_tells_the_type_unless_it_is_given(name: str, told: str, sent: str) -> None:
    with Upload(io.BytesIO(BODY), name, told) as upload:
        assert next(upload.requests()).header.content_type == sent


def test_a_pipe_has_no_checksum_and_cannot_be_sent_again() -> None:
    with Upload(Pipe(BODY)) as upload:
        assert sent(upload) == ("file", "", BODY)
        assert not upload.rewind()


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Upload(tmp_path / "nothing")


def test_a_file_that_breaks_while_it_is_read_is_remembered() -> None:
    class Broken(Pipe):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError("disk")

    with Upload(Broken(b"x")) as upload:
        with pytest.raises(OSError, match="disk"):
            list(upload.requests())
        assert str(upload.failure) == "disk"


def test_what_the_callers_own_progress_raises_is_remembered() -> None:
    def progress(done: int, total: int) -> None:
        raise ZeroDivisionError(f"{done} of {total}")

    with Upload(io.BytesIO(b"x"), progress=progress) as upload:
        with pytest.raises(ZeroDivisionError):
            list(upload.requests())
        assert str(upload.failure) == "1 of 1"


def test_whoever_reads_a_round_that_is_over_gets_nothing(tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(BODY)
    with Upload(path) as upload:
        late = upload.requests()
        next(late)
        upload.rewind()
        again = upload.requests()
        assert next(again).HasField("header")
        assert list(late) == []
        assert b"".join(request.chunk for request in again) == BODY
        after = upload.requests()
    assert list(after) == []


def known(body: bytes = BODY) -> DownloadAttachmentResponse:
    digest = hashlib.sha256(body).hexdigest()
    attachment = Attachment(filename="data.bin", byte_size=len(body), sha256=digest)
    return DownloadAttachmentResponse(attachment=attachment)


def chunk(body: bytes) -> DownloadAttachmentResponse:
    return DownloadAttachmentResponse(chunk=body)


def test_a_download_is_there_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "data.bin"
    with Download(target) as download:
        for part in (known(), chunk(BODY[:1000]), chunk(BODY[1000:])):
            download.write(part)
            assert not target.exists()
        assert download.finish().filename == "data.bin"
    assert target.read_bytes() == BODY
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_download_may_be_read_by_those_who_may_read_other_files(
    tmp_path: Path, mask: int
) -> None:
    usual = os.umask(mask)
    try:
        with Download(tmp_path / "data.bin") as download:
            download.write(known())
            download.write(chunk(BODY))
            download.finish()
    finally:
        os.umask(usual)
    assert stat.S_IMODE((tmp_path / "data.bin").stat().st_mode) == 0o666 & ~mask


class Store:
    """A client that downloads files which hold their own id."""

    def download(self, id_: str, path: Path, progress: object) -> None:
        path.write_text(id_)


def test_an_export_writes_over_nothing(tmp_path: Path) -> None:
    folder, long = tmp_path / "files", "ü" * 125 + ".text"
    folder.mkdir()
    (folder / "notes.txt").write_text("my own")
    names = ["notes.txt", "Notes.TXT", "talk.md", long, long, "new.txt"]
    files = [Attachment(id=str(number), filename=name) for number, name in enumerate(names)]
    client = cast(ConversationClient, Store())
    saved = save_attachments(client, [Message(attachments=files)], folder, folder / "talk.md")
    assert {path.as_posix() for path in saved.values()} == {
        "notes-2.txt", "Notes-3.TXT", "talk-2.md", long, "ü" * 124 + "-2.text", "new.txt"
    }  # fmt: skip
    assert (folder / "notes.txt").read_text() == "my own"
    assert [(folder / saved[file.id]).read_text() for file in files] == [f.id for f in files]
    saved = save_attachments(
        client, [Message(attachments=files[-1:])], folder, tmp_path / "talk.md"
    )
    assert saved["5"] == Path("files/new-2.txt")


def test_an_empty_file_arrives_too(tmp_path: Path) -> None:
    with Download(tmp_path / "empty") as download:
        download.write(known(b""))
        download.finish()
    assert (tmp_path / "empty").read_bytes() == b""


@pytest.mark.parametrize("body", [BODY[:-1], BODY[:-1] + b"?"])
def test_a_damaged_file_leaves_nothing_behind(tmp_path: Path, body: bytes) -> None:
    with Download(tmp_path / "data.bin") as download:
        download.write(known())
        download.write(chunk(body))
        with pytest.raises(ServerError, match=r"data\.bin arrived damaged"):
            download.finish()
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_broke_begins_again(tmp_path: Path) -> None:
    with Download(tmp_path / "data.bin") as download:
        download.write(known())
        download.write(chunk(BODY[:1000]))
        assert download.restart()
        download.write(known())
        download.write(chunk(BODY))
        download.finish()
    assert (tmp_path / "data.bin").read_bytes() == BODY


def test_what_was_written_into_an_open_file_cannot_be_taken_back() -> None:
    target = io.BytesIO()
    with Download(target) as download:
        download.write(known())
        assert download.restart()
        download.write(chunk(b"x"))
        assert not download.restart()


def test_progress_is_told_both_ways(tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(bytes(600_000))
    told: list[tuple[int, int]] = []
    with Upload(path, progress=lambda done, total: told.append((done, total))) as upload:
        requests = list(upload.requests())
    assert told[0] == (262_144, 600_000)
    assert told[-1] == (600_000, 600_000)
    told.clear()
    with Download(tmp_path / "copy", lambda done, total: told.append((done, total))) as download:
        download.write(DownloadAttachmentResponse(attachment=Attachment(byte_size=600_000)))
        for request in requests[1:]:
            download.write(DownloadAttachmentResponse(chunk=request.chunk))
        download.finish()
    assert told[-1] == (600_000, 600_000)
