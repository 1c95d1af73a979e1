"""The file store: on a folder, and on a server that speaks S3."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from colloquy.api import conversation_service_pb2 as api
from colloquy_server.files.storage import ObjectMissing, Storage, StorageError, StorageUnavailable
from colloquy_server.settings import Settings
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from tests.fakes import samples
from tests.harness import Caller, Colloquy
from tests.uploads import count, download, emptied, upload

BUCKET = "files"


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, str]]:
    """The environment for a store of a server that speaks S3."""
    app = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    environ = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    with client(environ) as s3:
        s3.create_bucket(Bucket=BUCKET)
    yield environ
    server.shutdown()
    thread.join()
    server.server_close()


def client(environ: dict[str, str]) -> Any:
    return contextlib.closing(
        boto3.client(
            "s3",
            endpoint_url=environ["AWS_ENDPOINT_URL"],
            aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
            region_name=environ["AWS_REGION"],
        )
    )


def objects(environ: dict[str, str]) -> list[str]:
    with client(environ) as s3:
        found = s3.list_objects_v2(Bucket=BUCKET)
    return [entry["Key"] for entry in found.get("Contents", [])]


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return Storage.open(f"file://{tmp_path}/not/there/yet", {})
    return Storage.open(f"s3://{BUCKET}/within", request.getfixturevalue("s3"))


async def read(storage: Storage, key: str) -> bytes:
    return b"".join([piece async for piece in storage.stream(key)])


@pytest.mark.parametrize("size", [1, 300_000, 12_000_000])
async def test_what_is_stored_comes_back_until_it_is_removed(storage: Storage, size: int) -> None:
    data = samples.noise(size + 2)[:size]
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        await storage.put("account/object", file)
    assert hashlib.sha256(await read(storage, "account/object")).digest() == (
        hashlib.sha256(data).digest()
    )
    await storage.remove("account/object")
    await storage.remove("account/object")
    with pytest.raises(ObjectMissing):
        await read(storage, "account/object")


def test_a_folder_is_relative_with_two_slashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Storage.open("file://data/files", {})
    assert (tmp_path / "data" / "files").is_dir()


@pytest.mark.parametrize("url", ["s3://", "file:///proc/no/such", "az://x"])
def test_a_store_that_cannot_be_used_is_told_in_one_line(url: str) -> None:
    with pytest.raises(StorageError) as caught:
        Storage.open(url, {})
    assert url in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_store_that_is_away_is_told_from_a_missing_object() -> None:
    environ = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    storage = Storage.open(f"s3://{BUCKET}", environ)
    async with asyncio.timeout(60):
        with pytest.raises(StorageUnavailable):
            await read(storage, "any")


@pytest.fixture
async def on_s3(tmp_path: Path, s3: dict[str, str]) -> AsyncIterator[Colloquy]:
    colloquy = Colloquy(tmp_path, storage_url=f"s3://{BUCKET}/server")
    plain = colloquy.settings

    def settings(**more: Any) -> Settings:
        made = plain(**more)
        made.environ.update(s3)
        return made

    colloquy.settings = settings  # type: ignore[method-assign]
    async with colloquy:
        yield colloquy


async def test_a_server_keeps_its_files_on_s3(on_s3: Colloquy, s3: dict[str, str]) -> None:
    alice: Caller = await on_s3.account()
    data = samples.noise(7_000_000)
    file = await upload(alice, data, "large.bin")
    assert (await download(alice, file.id))[1] == data
    (key,) = objects(s3)
    assert key.startswith(f"server/{alice.account_id}/{file.sha256}")
    picture = await upload(alice, samples.photo(3_000, 2_000), "photo.jpg")
    conversation = await alice.create(model="test-model")
    await alice.send(conversation.id, "See", attachment_ids=[picture.id, file.id]).reply()
    assert len(objects(s3)) == 3  # the small picture too
    request = api.DeleteConversationRequest(conversation_id=conversation.id)
    await alice.call("DeleteConversation", request)
    assert await count(on_s3, "attachments", "blobs") == [0, 0]
    await emptied(on_s3)
    assert objects(s3) == []


async def test_a_folder_goes_with_its_last_file_and_what_was_broken_off(tmp_path: Path) -> None:
    store = Storage.open(f"file://{tmp_path}/files", {})
    folder = tmp_path / "files" / "account"
    for key in ("account/one", "account/two"):
        with tempfile.TemporaryFile() as file:
            file.write(b"bytes")
            file.seek(0)
            await store.put(key, file)
    # What a process leaves that is killed while it stores something.
    (folder / "one#1").write_bytes(b"bytes")
    await store.remove("account/one")
    assert [path.name for path in folder.iterdir()] == ["two"]
    await store.remove("account/two")
    await store.remove("account/two")
    assert not folder.exists()
    assert folder.parent.exists()
