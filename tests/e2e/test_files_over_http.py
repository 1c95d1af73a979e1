"""Files by plain HTTP: what a browser's page and curl do with them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import resources_pb2 as resources
from colloquy_server.api.access import hash_secret
from colloquy_server.api.call_limiter import CallLimiter
from colloquy_server.database.models import Attachment
from colloquy_server.database.transactions import EVERY_ACCOUNT
from colloquy_server.files import files
from colloquy_server.web import forms
from google.rpc import error_details_pb2
from sqlalchemy import update

from tests.browser_double import Browser
from tests.e2e.test_http_attacks import Raw
from tests.fleets import ANY
from tests.harness import Caller, Colloquy, settle
from tests.memory import HAS_PROC
from tests.statuses import refused
from tests.uploads import download, upload

pytestmark = ANY

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HTML = b"<!doctype html><html><body><script>alert(1)</script></body></html>"


class Web:
    """Somebody who has only HTTP."""

    def __init__(self, colloquy: Colloquy, key: str) -> None:
        self.base = f"http://127.0.0.1:{colloquy.app.http_port}"
        self.session = aiohttp.ClientSession(headers={"authorization": f"Bearer {key}"})

    async def __aenter__(self) -> Web:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def upload(self, data: Any, **query: str) -> tuple[int, dict[str, Any]]:
        url = f"{self.base}/files"
        async with self.session.post(url, data=data, params=query) as answer:
            return answer.status, await answer.json()

    async def get(
        self, attachment_id: str, query: str = "", method: str = "GET", **headers: str
    ) -> tuple[int, bytes, Any]:
        url = f"{self.base}/files/{attachment_id}{query}"
        asked = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(method, url, headers=asked) as answer:
            return answer.status, await answer.read(), answer.headers


@pytest.fixture
async def alice(colloquy: Colloquy) -> Caller:
    return await colloquy.account()


@pytest.fixture
async def web(colloquy: Colloquy, alice: Caller) -> AsyncIterator[Web]:
    async with Web(colloquy, alice.key) as web:
        yield web


def reason(body: dict[str, Any]) -> str:
    info = error_details_pb2.ErrorInfo()
    (found,) = [d for d in body["details"] if d["type"] == "google.rpc.ErrorInfo"]
    info.ParseFromString(base64.b64decode(found["value"] + "=="))
    return str(info.reason)


async def test_a_file_comes_as_it_is_or_in_a_form(web: Web, alice: Caller) -> None:
    form = aiohttp.FormData(quote_fields=False)  # as browsers send it
    form.add_field("note", "x")
    form.add_field("file", PNG, filename="Bild ü.png", content_type="image/png")
    for data, query in ((PNG, {"filename": "Bild ü.png"}), (form, {})):
        status, file = await web.upload(data, **query)
        assert (status, file["filename"], file["kind"]) == (200, "Bild ü.png", "KIND_IMAGE")
        status, body, headers = await web.get(file["id"])
        assert (status, body) == (200, PNG)
        assert headers["content-type"] == "image/png"
    assert file["sha256"] == hashlib.sha256(PNG).hexdigest()


async def test_a_large_file_comes_whole_and_in_ranges(web: Web) -> None:
    data = b"".join(b"line %7d\n" % number for number in range(90_000))
    status, file = await web.upload(data, filename="lines.txt")
    assert status == 200
    size = len(data)
    assert (await web.get(file["id"]))[:2] == (200, data)
    for asked, wanted in {
        "bytes=0-0": (0, 1),
        "bytes=5-999999": (5, 1_000_000),
        "bytes=700000-": (700_000, size),
        "bytes=-7": (size - 7, size),
        f"bytes=10-{size * 2}": (10, size),
    }.items():
        status, body, headers = await web.get(file["id"], Range=asked)
        assert (status, body) == (206, data[slice(*wanted)]), asked
        assert headers["content-range"] == f"bytes {wanted[0]}-{wanted[1] - 1}/{size}"
    for asked in (f"bytes={size}-", "bytes=-0", "bytes=9-3"):
        status, body, headers = await web.get(file["id"], Range=asked)
        assert (status, body, headers["content-range"]) == (416, b"", f"bytes */{size}"), asked
    for ignored in ("bytes=0-1,5-6", "lines=1-2", "bytes=x-"):
        assert (await web.get(file["id"], Range=ignored))[0] == 200
    _, _, headers = await web.get(file["id"])
    tag = headers["etag"]
    assert (await web.get(file["id"], If_None_Match=tag))[:2] == (304, b"")
    assert (await web.get(file["id"], Range="bytes=0-3", If_Range='"other"'))[0] == 200
    status, body, headers = await web.get(file["id"], method="HEAD")
    assert (status, body, headers["content-length"]) == (200, b"", str(size))


@pytest.mark.parametrize(
    ("name", "data", "way"),
    [
        ("a.png", PNG, "inline"),
        ("drawing.svg", SVG, "attachment"),
        ("page.html", HTML, "attachment"),
        ("notes.txt", b"just words", "inline"),
        ("paper.pdf", b"%PDF-1.4\n1 0 obj\n", "attachment"),
    ],
)
async def test_nothing_that_is_uploaded_runs_in_the_pages_origin(
    web: Web, name: str, data: bytes, way: str
) -> None:
    status, file = await web.upload(data, filename=name)
    if status != 200:  # not taken at all
        assert reason(file) == "ATTACHMENT_UNSUPPORTED"
        return
    for query, expected in (("", way), ("?download", "attachment")):
        _, _, headers = await web.get(file["id"], query)
        assert headers["content-disposition"].startswith(f"{expected}; ")
        assert headers["x-content-type-options"] == "nosniff"
        policy = headers["content-security-policy"].split("; ")
        assert {"sandbox", "default-src 'none'", "frame-ancestors 'none'"} == set(policy)
        assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("name", ["a.js", "a.mjs", "a.css"])
async def test_the_page_could_not_be_made_to_run_an_upload(web: Web, name: str) -> None:
    """Its policy lets scripts and styles of its own origin be loaded, by whatever address: only
    what is said of the type keeps a browser from taking a file for one."""
    _, file = await web.upload(b"alert(1)", filename=name)
    _, body, headers = await web.get(file["id"])
    assert (body, headers["content-type"]) == (b"alert(1)", "text/plain; charset=utf-8")
    assert headers["content-disposition"].startswith("attachment; ")


async def test_a_files_name_breaks_out_of_no_header(web: Web) -> None:
    name = 'a"; filename=evil.html\\ ü 日本.txt'
    _, file = await web.upload(b"words", filename=name)
    _, _, headers = await web.get(file["id"])
    shown = headers["content-disposition"]
    assert shown.count('"') == 2
    assert shown.endswith("%C3%BC%20%E6%97%A5%E6%9C%AC.txt")
    assert shown.isascii()


async def test_refusals_are_those_of_the_call(colloquy: Colloquy, web: Web, alice: Caller) -> None:
    limit = colloquy.app.settings.max_attachment_bytes
    for data, query, expected in (
        (b"", {"filename": "a.txt"}, (400, "INVALID_FIELD")),
        (b"x", {}, (400, "INVALID_FIELD")),
        (b"x", {"filename": "a.txt", "sha256": "0" * 64}, (400, "INVALID_FIELD")),
        (b"x" * (limit + 1), {"filename": "a.txt"}, (400, "ATTACHMENT_TOO_LARGE")),
    ):
        status, body = await web.upload(data, **query)
        assert (status, reason(body)) == expected
    for wrong in (b"no form", b"--x\r\ncontent-disposition: form-data; name=a\r\n\r\nb\r\n--x--"):
        async with web.session.post(
            f"{web.base}/files",
            data=wrong,
            headers={"content-type": "multipart/form-data; boundary=x"},
        ) as answer:
            assert (answer.status, reason(await answer.json())) == (400, "INVALID_FIELD")
    async with web.session.post(
        f"{web.base}/files?filename=a.txt", data=b"x", headers={"content-encoding": "x-gzip"}
    ) as answer:
        assert (answer.status, (await answer.json())["code"]) == (501, "unimplemented")
    _, file = await web.upload(b"words", filename="a.txt")
    async with Web(colloquy, (await colloquy.account()).key) as other:
        status, said, _ = await other.get(file["id"])
        assert status == 404
        assert said == (await other.get("01890000-0000-7000-8000-000000000000"))[1]
    assert (await web.get("nonsense"))[0] == 400
    async with Web(colloquy, "wrong") as nobody:
        assert (await nobody.get(file["id"]))[0] == 401
        status, body = await nobody.upload(b"x" * (1 << 20), filename="a.txt")
        assert (status, reason(body)) == (401, "UNAUTHENTICATED")


_FILE = b'content-disposition: form-data; name="a"; filename="a.txt"\r\n\r\nwords'


def _form(*parts: bytes) -> bytes:
    return b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + b"--x--\r\n"


@pytest.mark.parametrize(
    ("form", "status"),
    [
        (_form(*[b"a: b\r\n\r\n"] * 15, _FILE), 200),
        (_form(*[b"a: b\r\n\r\n"] * 20_000), 400),
        (_form(*[b"\r\n"] * 20_000, _FILE), 400),
        (_form(_FILE, *[b"a: b\r\n\r\n"] * 20_000), 400),
        (_form(_FILE) + bytes(1 << 20), 400),
        (_form(_FILE, _FILE), 400),
        (_form(b"a: " + b"b" * 100_000 + b"\r\n\r\n", _FILE), 400),
        (_form(b"a: b\r\n" * 1_000 + b"\r\n", _FILE), 400),
        (_form(_FILE).removesuffix(b"\r\n--x--\r\n"), 400),
        (b"--x\r\n" + _FILE.replace(b"filename", b"nothing") + b"\r\n--x--", 400),
    ],
    ids=[
        *("small fields", "many fields", "many parts", "many behind", "a long end", "two files"),
        *("a long header", "many headers", "no end", "no file"),
    ],
)
async def test_a_form_takes_no_more_work_than_its_file(
    web: Web, monkeypatch: pytest.MonkeyPatch, form: bytes, status: int
) -> None:
    """Each part of a form takes a while of the event loop, in which all else waits."""
    begun = 0
    begin = forms._Parser._begin

    def count(parser: forms._Parser) -> None:
        nonlocal begun
        begun += 1
        begin(parser)

    monkeypatch.setattr(forms._Parser, "_begin", count)
    url, kind = f"{web.base}/files", {"content-type": "multipart/form-data; boundary=x"}
    async with web.session.post(url, data=form, headers=kind) as answer:
        said = await answer.json()
        assert answer.status == status
        assert status == 200 or reason(said) == "INVALID_FIELD"
    assert begun <= 17


async def test_what_comes_behind_a_file_is_not_taken_for_ever(web: Web) -> None:
    refused = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield _form(_FILE)
        while not refused.is_set():
            yield bytes(1 << 14)
            await asyncio.sleep(0)

    kind = {"content-type": "multipart/form-data; boundary=x"}
    async with web.session.post(f"{web.base}/files", data=endless(), headers=kind) as answer:
        assert (answer.status, reason(await answer.json())) == (400, "INVALID_FIELD")
        refused.set()


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@HAS_PROC
async def test_who_goes_away_leaves_no_place_taken_and_no_file_open(
    colloquy: Colloquy, web: Web, alice: Caller
) -> None:
    streams = colloquy.app.edge.streams
    _, file = await web.upload(bytes(6 << 20), filename="large.bin")
    address = f"127.0.0.1:{colloquy.app.http_port}"
    before = _open_files()
    head = f"authorization: Bearer {alice.key}\r\nhost: x\r\n"
    upload = f"POST /files?filename=a.txt HTTP/1.1\r\n{head}"
    kind = "content-type: multipart/form-data; boundary=x"
    form = f"{upload}{kind}\r\ncontent-length: 900000\r\n\r\n"
    download = f"GET /files/{file['id']} HTTP/1.1\r\n{head}\r\n"
    for beginning in (
        f"{upload}content-length: 9\r\n\r\n",
        f"{upload}content-length: 900000\r\n\r\n" + "x" * 400_000,
        f"{upload}transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        f"{upload}content-length: 9\r\nexpect: 100-continue\r\n\r\n",
        form,
        form + "--x\r\na: b",
        form + (b"--x\r\n" + _FILE).decode() + "x" * 400_000,
        form + _form(_FILE).decode(),
        download,
    ):
        async with AsyncExitStack() as stack:
            for _ in range(8):
                raw = await stack.enter_async_context(Raw(address))
                await raw.send(beginning.encode())
            await settle(lambda: streams._count == 8)
        await settle(lambda: streams._count == 0)
        await settle(lambda: _open_files() <= before + 2)
    assert (await web.upload(b"whole", filename="whole.txt"))[0] == 200


async def test_files_that_are_open_are_counted_however_they_come(
    colloquy: Colloquy, web: Web, alice: Caller
) -> None:
    """Each has a file of the process open, and one connection can have thousands of calls."""
    _, file = await web.upload(bytes(6 << 20), filename="large.bin")
    noah = await colloquy.key(alice.account_id)
    service = colloquy.app.attachments
    service._open = CallLimiter(3, 2)
    address = f"127.0.0.1:{colloquy.app.http_port}"
    head = f"host: x\r\nauthorization: Bearer {alice.key}\r\n"
    slow = (
        f"POST /files?filename=a.txt HTTP/1.1\r\n{head}content-length: 9\r\n\r\n",
        f"GET /files/{file['id']} HTTP/1.1\r\n{head}\r\n",
    )
    async with AsyncExitStack() as stack:
        for each in slow:
            await (await stack.enter_async_context(Raw(address))).send(each.encode())
        await settle(lambda: service._open._count == 2)
        status, said = await web.upload(b"words", filename="a.txt")
        assert (status, reason(said)) == (429, "OVERLOADED")
        assert (await web.get(file["id"]))[0] == 429
        assert (await refused(upload(alice, b"words"))).reason == "OVERLOADED"
        assert (await refused(download(alice, file["id"]))).reason == "OVERLOADED"
        assert (await upload(noah, b"words")).byte_size == 5, "others have theirs"
    await settle(lambda: service._open._count == 0)
    assert (await web.upload(b"words", filename="a.txt"))[0] == 200


@pytest.mark.parametrize("how", ["key", "file", "session"])
async def test_a_download_ends_when_it_is_not_allowed_any_more(
    colloquy: Colloquy,
    web: Web,
    alice: Caller,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The connection ends, so that nobody takes what came for the whole; it is no fault of ours."""
    monkeypatch.setattr(files, "_CHECK_INTERVAL", 0.0)
    mia = await colloquy.key(
        alice.account_id,
        admin_api.ApiKey.ROLE_MEMBER,
        user=resources.User(external_id="mia"),
    )
    async with Web(colloquy, mia.key) as other:
        _, file = await other.upload(bytes(8 << 20), filename="large.bin")
    async with Browser(colloquy.app.web_url) as browser:
        shown = f"authorization: Bearer {mia.key}"
        if how == "session":
            await browser.sign_in(api_key=mia.key)
            shown = f"cookie: colloquy={browser.cookies['colloquy']}"
        async with Raw(f"127.0.0.1:{colloquy.app.http_port}") as slow:
            # So little is taken at once that the server has to wait.
            request = f"GET /files/{file['id']} HTTP/1.1\r\nhost: x\r\n{shown}\r\n\r\n"
            await slow.send(request.encode())
            head = await slow.reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            if how == "session":
                await browser.ask("DELETE", "/session")
            elif how == "key":
                colloquy.app.access.forget(_key_of(colloquy, mia))
            else:
                await colloquy.app.db.write(
                    EVERY_ACCOUNT, lambda s: s.execute(update(Attachment).values(uploader_id="x"))
                )
            came = 0
            try:
                while data := await slow.reader.read(1 << 16):
                    came += len(data)
            except ConnectionError:
                pass
            assert came < 8 << 20
    await settle(lambda: colloquy.app.edge.streams._count == 0)
    said = "".join(capsys.readouterr())
    assert "request failed" not in said
    assert "Traceback" not in said


def _key_of(colloquy: Colloquy, caller: Caller) -> str:
    digest = hash_secret(caller.key)
    return colloquy.app.access._cache[digest].principal.key_id


async def test_an_upload_ends_with_its_session(colloquy: Colloquy, alice: Caller) -> None:
    async with Browser(colloquy.app.web_url) as browser:
        await browser.sign_in(api_key=alice.key)
        async with Raw(f"127.0.0.1:{colloquy.app.http_port}") as slow:
            head = [
                "POST /files?filename=a.txt HTTP/1.1",
                *("host: x", "sec-fetch-site: same-origin", "content-length: 9"),
                f"cookie: colloquy={browser.cookies['colloquy']}",
            ]
            await slow.send("\r\n".join([*head, "", "a"]).encode())
            await settle(lambda: colloquy.app.edge.streams._count == 1)
            await browser.ask("DELETE", "/session")
            status, said = await slow.answer()
            assert (status, b"This session has ended" in said) == (401, True)
    assert colloquy.app.edge.streams._count == 0


async def test_a_connection_goes_on_after_a_refusal_that_has_come_whole(
    colloquy: Colloquy, alice: Caller
) -> None:
    """The next answer is the one to the next request, whatever became of the last."""
    key = {"authorization": f"Bearer {alice.key}"}
    form = {**key, "content-type": "multipart/form-data; boundary=x"}
    page = {"cookie": "colloquy=x", "origin": "https://evil.example"}
    next_one = b"GET /files/nonsense HTTP/1.1\r\nhost: x\r\n\r\n"
    async with Raw(f"127.0.0.1:{colloquy.app.http_port}") as raw:
        for path, body, headers, status in (
            ("/files?filename=a.txt", b"x", {}, 401),
            ("/files?filename=a.txt", b"x", page, 403),
            ("/files?filename=a.txt", b"x" * 900_000, page, 403),
            ("/files?filename=a.txt", b"", key, 400),
            ("/files?filename=a.txt", b"x", {**key, "content-encoding": "gzip"}, 501),
            ("/files", b"x", key, 400),
            ("/files", b"no form", form, 400),
            ("/files", _form(*[b"\r\n"] * 9_000), form, 400),
            ("/files", _form(_FILE, _FILE), form, 400),
            ("/files", _form(_FILE), form, 200),
            ("/files/x", b"x", key, 405),
            ("/session", b"{}", page, 403),
            ("/session", b"x" * 20_000, {"sec-fetch-site": "same-origin"}, 400),
        ):
            fields = {"host": "x", "content-length": str(len(body)), **headers}
            head = [f"POST {path} HTTP/1.1", *(f"{n}: {v}" for n, v in fields.items()), "", ""]
            await raw.send("\r\n".join(head).encode() + body)
            assert (await raw.answer())[0] == status, (path, headers)
            await raw.send(next_one)
            status, said = await raw.answer()
            assert (status, b"unauthenticated" in said) == (401, True), (path, headers)


async def test_another_page_sends_no_file_and_reads_none(
    colloquy: Colloquy, web: Web, alice: Caller
) -> None:
    _, file = await web.upload(b"words", filename="a.txt")
    path = "/files?filename=b.txt"
    evil = {"origin": "https://evil.example"}
    form = {"content-type": "multipart/form-data; boundary=x"}
    async with Browser(colloquy.app.web_url) as browser:
        await browser.sign_in(api_key=alice.key)
        for origin, headers in (
            ("https://evil.example", {}),
            ("null", {}),
            (None, {}),
            ("own", {"sec-fetch-site": "cross-site"}),
            ("own", {"sec-fetch-site": "same-site"}),
            (None, {"sec-fetch-site": "none"}),
            ("own", {"content-type": "text/plain", "sec-fetch-site": "cross-site"}),
            ("https://evil.example", form),
        ):
            answer = await browser.ask(
                "POST", path, data=_form(_FILE), origin=origin, headers=headers
            )
            assert (answer.status, answer.json["code"]) == (403, "permission_denied"), headers
        for headers in (evil, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}):
            answer = await browser.ask("GET", f"/files/{file['id']}", headers=headers)
            assert answer.status == 403, headers
        for headers in ({}, {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}):
            answer = await browser.ask("GET", f"/files/{file['id']}", headers=headers)
            assert answer.status == 200, headers
        assert (await browser.ask("POST", path, data=_form(_FILE), headers=form)).status == 200


async def test_an_upload_that_breaks_off_leaves_nothing(
    colloquy: Colloquy, web: Web, alice: Caller
) -> None:
    stuck = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield b"x" * 300_000
        stuck.set()
        await asyncio.Event().wait()

    sending = asyncio.create_task(web.upload(half(), filename="half.txt"))
    await stuck.wait()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    status, file = await web.upload(b"whole", filename="whole.txt")
    assert status == 200
    assert (await web.get(file["id"]))[1] == b"whole"
