"""What is around a server: its file store, disk, certificate and ports."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import ssl
import tempfile
import urllib.request
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

from colloquy.operations.checkup import Finding, fail, ok, warn
from cryptography import x509

from colloquy_server.database.engine import database_file
from colloquy_server.database.values import new_id
from colloquy_server.errors import ColloquyError
from colloquy_server.files.storage import Storage
from colloquy_server.settings import Settings
from colloquy_server.shared_port import SharedPort

_FEW_BYTES = 1 << 30
_TOO_FEW_BYTES = 100 << 20
"""Free on a disk: below the first somebody should look, below the second writes soon fail."""

_EXPIRES_SOON = 30
"""Days before a certificate ends at which it should have been renewed."""

_PROBE = b"colloquy doctor"


async def findings(settings: Settings) -> AsyncIterator[Finding]:
    """Looks, and leaves nothing behind."""
    yield await _store(settings)
    for finding in _disks(settings):
        yield finding
    for finding in _certificates(settings):
        yield finding
    async for finding in _ports(settings):
        yield finding


async def _store(settings: Settings) -> Finding:
    key = f"doctor/{new_id()}"
    try:
        store = Storage.open(settings.storage_url, settings.environ)
        await store.put(key, io.BytesIO(_PROBE))
        try:
            read = b"".join([piece async for piece in store.stream(key)])
        finally:
            await store.remove(key)
    except ColloquyError as error:
        said = error.message or type(error).__name__
        return fail("store", said, "see STORAGE_URL, the store's keys and what they may do")
    if read != _PROBE:
        return fail("store", "what was read is not what was written", "see STORAGE_URL")
    return ok("store", "an object was written, read and deleted")


def _disks(settings: Settings) -> list[Finding]:
    places = {"temporary files": Path(tempfile.gettempdir())}
    if settings.storage_url.startswith("file://"):
        places["files"] = Path(settings.storage_url.removeprefix("file://"))
    if file := database_file(settings.database_url):
        places["database"] = file.parent
    found = []
    for what, place in places.items():
        there = next(one for one in (place.absolute(), *place.absolute().parents) if one.exists())
        free = shutil.disk_usage(there).free
        said = f"{free / (1 << 30):,.1f} GiB are free in {place} ({what})"
        if free < _TOO_FEW_BYTES:
            found.append(fail("disk", said, "make room: nothing can be stored soon"))
        elif free < _FEW_BYTES:
            found.append(warn("disk", said, "make room"))
        else:
            found.append(ok("disk", said))
    return found


def _certificates(settings: Settings) -> list[Finding]:
    open_to_all = settings.allow_insecure and not settings.tls_cert_file
    if open_to_all:
        return [
            warn(
                "TLS",
                "off, and ALLOW_INSECURE is set",
                "see that something else encrypts what leaves this machine",
            )
        ]
    files = {
        "TLS_CERT_FILE": settings.tls_cert_file,
        "TLS_CLIENT_CA_FILE": settings.tls_client_ca_file,
    }
    found = [_expiry(name, file) for name, file in files.items() if file is not None]
    return found or [ok("TLS", "off: only this machine can call")]


def _expiry(name: str, file: Path) -> Finding:
    try:
        chain = x509.load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError) as error:
        return fail("TLS", f"{name} cannot be read: {error}", "name a file in PEM")
    ends = min(one.not_valid_after_utc for one in chain)
    left = (ends - datetime.now(UTC)).days
    said = f"{name} ends on {ends:%Y-%m-%d}"
    if left < 0:
        return fail("TLS", said, "renew it, and restart the servers")
    if left < _EXPIRES_SOON:
        return warn("TLS", f"{said}, in {left} days", "renew it, and restart the servers")
    return ok("TLS", said)


async def _ports(settings: Settings) -> AsyncIterator[Finding]:
    serves = settings.serves_http and await asyncio.to_thread(_is_ours, settings)
    names = {
        "GRPC_ADDRESS": settings.grpc_address,
        "HTTP_ADDRESS": settings.http_address,
        "PROMETHEUS_ADDRESS": settings.prometheus_address,
    }
    for name, address in names.items():
        if address in (None, "off"):
            continue
        try:
            SharedPort(str(address)).close()
        except OSError as error:
            if serves:
                yield ok("ports", f"{name} {address}: a server of Colloquy's serves here now")
            else:
                remedy = f"if that is not this server: stop it, or set {name} to another port"
                yield warn("ports", str(error), remedy)
        else:
            yield ok("ports", f"{name} {address} is free")


def _is_ours(settings: Settings) -> bool:
    """Whether a server of Colloquy's answers at HTTP_ADDRESS."""
    scheme = "https" if settings.tls_cert_file else "http"
    host, _, port = settings.http_address.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104
    context = ssl.create_default_context()
    context.check_hostname = False  # it is this machine, whatever its certificate is for
    context.verify_mode = ssl.CERT_NONE
    try:
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        with opener.open(f"{scheme}://{host}:{port}/healthz", timeout=5) as answer:
            return bool(json.loads(answer.read(1_000)).get("status"))
    except (OSError, ValueError, AttributeError):
        return False
