"""TLS: calls are encrypted, and with a CA only clients with a certificate by it get in."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import grpc
import pytest
from colloquy.api import conversation_service_pb2 as api
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.harness import Caller, Colloquy


class Authority:
    """A CA that makes certificates."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(self._name, self._key, is_authority=True)
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str) -> tuple[bytes, bytes]:
        """A key and its certificate, in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key, is_authority=False)
        return (
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
            certificate.public_bytes(serialization.Encoding.PEM),
        )

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_authority: bool
    ) -> x509.Certificate:
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if not is_authority:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


AUTHORITY = Authority("Our own")


@pytest.fixture
async def colloquy(tmp_path: Path) -> AsyncIterator[Colloquy]:
    """A server, to be restarted with TLS."""
    async with Colloquy(tmp_path) as running:
        yield running


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The server's settings for TLS."""
    key, certificate = AUTHORITY.issue("server")
    paths = {"tls_key_file": tmp_path / "key.pem", "tls_cert_file": tmp_path / "cert.pem"}
    paths["tls_key_file"].write_bytes(key)
    paths["tls_cert_file"].write_bytes(certificate)
    return paths


async def get_in(
    colloquy: Colloquy, caller: Caller, credentials: grpc.ChannelCredentials | None
) -> bool:
    """Whether a caller with these credentials gets an answer."""
    address = f"127.0.0.1:{colloquy.apps[0].port}"
    async with (
        grpc.aio.secure_channel(address, credentials)
        if credentials
        else grpc.aio.insecure_channel(address)
    ) as channel:
        try:
            await caller.on(channel).call("ListModels", api.ListModelsRequest())
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            return False
        return True


async def test_calls_are_encrypted(colloquy: Colloquy, files: dict[str, Path]) -> None:
    alice = await colloquy.account("alice")
    await colloquy.restart(**files)
    trusting = grpc.ssl_channel_credentials(AUTHORITY.pem)
    assert await get_in(colloquy, alice, trusting)
    assert not await get_in(colloquy, alice, None)
    stranger = grpc.ssl_channel_credentials(Authority("Another").pem)
    assert not await get_in(colloquy, alice, stranger), "a client that does not trust our CA"


async def test_with_a_ca_clients_show_a_certificate_by_it(
    colloquy: Colloquy, files: dict[str, Path], tmp_path: Path
) -> None:
    alice = await colloquy.account("alice")
    clients = Authority("Clients")
    (tmp_path / "ca.pem").write_bytes(clients.pem)
    await colloquy.restart(**files, tls_client_ca_file=tmp_path / "ca.pem")
    good = grpc.ssl_channel_credentials(AUTHORITY.pem, *clients.issue("client"))
    other = grpc.ssl_channel_credentials(AUTHORITY.pem, *Authority("Other").issue("client"))
    none = grpc.ssl_channel_credentials(AUTHORITY.pem)
    assert await get_in(colloquy, alice, good)
    assert not await get_in(colloquy, alice, other)
    assert not await get_in(colloquy, alice, none)


async def test_http_has_the_same_certificate_and_asks_for_the_same(
    colloquy: Colloquy, files: dict[str, Path], tmp_path: Path
) -> None:
    clients = Authority("Clients")
    (tmp_path / "ca.pem").write_bytes(clients.pem)
    certificate = tmp_path / "client.pem"
    certificate.write_bytes(b"".join(clients.issue("client")))

    async def get_in(trusted: bytes, scheme: str = "https", *, shows: bool = False) -> bool:
        context = ssl.create_default_context(cadata=trusted.decode())
        if shows:
            context.load_cert_chain(certificate)
        url = f"{scheme}://127.0.0.1:{colloquy.app.http_port}/healthz"
        async with aiohttp.ClientSession() as session:
            try:
                async with session.get(url, ssl=context) as response:
                    return response.status == 200
            except aiohttp.ClientError:
                return False

    await colloquy.restart(**files)
    assert await get_in(AUTHORITY.pem)
    assert not await get_in(AUTHORITY.pem, "http")
    assert not await get_in(Authority("Another").pem)
    await colloquy.restart(**files, tls_client_ca_file=tmp_path / "ca.pem")
    assert await get_in(AUTHORITY.pem, shows=True)
    assert not await get_in(AUTHORITY.pem)
