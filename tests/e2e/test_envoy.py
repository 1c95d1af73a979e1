"""Two servers over one Postgres behind the real Envoy, with the configuration of deploy/."""

from __future__ import annotations

import asyncio
import datetime
import re
import signal
from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from pathlib import Path

import aiohttp
import grpc
import pytest
import yaml
from colloquy import AsyncConversationClient, Transcript, is_final
from colloquy.api import resources_pb2 as resources
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.envoy import DEPLOY, Config, Envoy, cluster, manager, program
from tests.fakes.provider import Answer
from tests.harness import Caller, Colloquy, ServerProcess
from tests.statuses import refused

pytestmark = pytest.mark.skipif(not program(), reason="there is no Envoy for this platform")

SLOW_TO_START = pytest.mark.timeout(360)
"""Two processes that load everything there is, on a machine that may have much else to do."""

Message = resources.Message


@pytest.fixture
async def fleet(tmp_path: Path, postgres_url: str) -> AsyncIterator[Colloquy]:
    """Two servers in this process; their heartbeats come quickly."""
    async with Colloquy(tmp_path, postgres_url, replicas=2, heartbeat_interval=0.3) as running:
        yield running


@pytest.fixture
async def home(tmp_path: Path, postgres_url: str) -> AsyncIterator[Colloquy]:
    """What servers of a test share: a database and a provider; its own server is not called."""
    async with Colloquy(tmp_path, postgres_url) as running:
        yield running


@pytest.fixture
async def processes(home: Colloquy) -> AsyncIterator[list[ServerProcess]]:
    """Two servers as processes."""
    started = [ServerProcess(home, SHUTDOWN_GRACE="1", LEASE_TTL="3") for _ in range(2)]
    await asyncio.gather(*(process.start() for process in started))
    yield started
    await asyncio.gather(*(process.end() for process in started))


def addresses(fleet: Colloquy) -> list[str]:
    return [f"127.0.0.1:{app.port}" for app in fleet.apps]


async def through(envoy: Envoy, fleet: Colloquy) -> Caller:
    """A caller who knows nothing but Envoy."""
    return (await fleet.account()).on(fleet.channel_to(envoy.address))


async def test_calls_are_balanced_over_both(fleet: Colloquy, tmp_path: Path) -> None:
    async with Envoy(tmp_path, addresses(fleet)) as envoy:
        alice = await through(envoy, fleet)
        conversations = [await alice.create() for _ in range(30)]
        sent = [alice.send(conversation.id) for conversation in conversations[:10]]
        replies = await asyncio.gather(*(stream.reply() for stream in sent))
        hosts = await envoy.hosts()
    assert all(reply.state == Message.STATE_COMPLETED for reply in replies)
    shares = [hosts[address]["rq_total"] for address in addresses(fleet)]
    assert sum(shares) == 40
    assert min(shares) >= 6, shares


async def test_where_a_call_comes_from_is_what_envoy_saw(fleet: Colloquy, tmp_path: Path) -> None:
    await fleet.restart(trusted_proxies=1, max_failed_authentications=1)
    async with Envoy(tmp_path, addresses(fleet)) as envoy:
        nobody = Caller(fleet.channel_to(envoy.address), "nonsense")
        told = []
        for number in range(len(fleet.apps) + 1):
            made_up = ("x-forwarded-for", f"192.0.2.{number}")
            nobody.metadata = (*nobody.metadata[:1], made_up)  # type: ignore[assignment]
            told.append((await refused(nobody.create())).status)
    assert "RESOURCE_EXHAUSTED" in told, (
        "else who makes up addresses may fail as often as they like"
    )


async def test_a_request_of_any_size_reaches_the_server(fleet: Colloquy, tmp_path: Path) -> None:
    async with Envoy(tmp_path, addresses(fleet)) as envoy:
        alice = await through(envoy, fleet)
        alice.metadata = (*alice.metadata, ("x-request-id", "of-alice"))  # type: ignore[assignment]
        conversation = await alice.create()
        refusal = await refused(alice.send(conversation.id, "x" * (10 << 20)))
        assert (refusal.status, refusal.reason) == ("INVALID_ARGUMENT", "MESSAGE_TOO_LONG")
        assert list(refusal.fields) == ["content"]
        largest = "y" * (1 << 18)  # more than Envoy keeps of a stream at a time
        fleet.provider.script(Answer(pieces=["z" * (1 << 16)] * 8))
        stream = alice.send(conversation.id, largest)
        assert (await stream.reply()).content == "z" * (1 << 19)
        (asked,) = fleet.provider.reply_requests
        assert asked.headers["x-request-id"] == "of-alice"
        assert [message.content for message in await alice.history(conversation.id)] == [
            largest,
            "z" * (1 << 19),
        ]


async def test_heartbeats_keep_a_quiet_stream(fleet: Colloquy, tmp_path: Path) -> None:
    def hurry(config: Config) -> None:
        manager(config)["stream_idle_timeout"] = "3s"

    async with Envoy(tmp_path, addresses(fleet), hurry) as envoy:
        alice = await through(envoy, fleet)
        conversation = await alice.create()
        watch = alice.watch(conversation.id)
        await watch.until("conversation")
        for _ in range(14):  # more than four seconds
            await watch.until("heartbeat")
        reply = await alice.send(conversation.id).reply()
        assert (await watch.final(reply.id)).content == reply.content
        watch.cancel()


async def test_by_http_too_one_server_is_left_when_the_other_is_stopped(
    home: Colloquy, processes: list[ServerProcess], tmp_path: Path
) -> None:
    http = [process.http_address for process in processes]
    async with Envoy(tmp_path, [one.address for one in processes], http_servers=http) as envoy:
        home.provider.default = Answer(tokens=5)
        alice = (await home.account()).on(home.http_channel_to(envoy.http_address, "connect-json"))
        conversation = await alice.create()
        assert (await alice.send(conversation.id).reply()).state == Message.STATE_COMPLETED
        async with aiohttp.ClientSession(f"http://{envoy.http_address}") as browser:
            for path, status in (("/", 200), ("/readyz", 404), ("/metrics", 404)):
                async with browser.get(path) as page:
                    assert page.status == status, path
        await processes[0].end(signal.SIGTERM)
        await envoy.until(http[0], is_healthy=False)
        for number in range(4):
            assert (await alice.create(title=f"New {number}")).title == f"New {number}"


class Following:
    """A watch of a conversation by a client of ours."""

    def __init__(self, client: AsyncConversationClient, conversation_id: str) -> None:
        self.transcript = Transcript()
        self._client, self._conversation_id = client, conversation_id
        self._began = asyncio.Event()
        self._task = asyncio.create_task(self._follow())

    async def began(self) -> None:
        """Waits until nothing can be missed any more."""
        await self._began.wait()

    async def text(self, message_id: str) -> str:
        """What it saw of a reply; waits for its end."""
        await self._task
        return self.transcript.messages[message_id].text

    async def _follow(self) -> None:
        async with self._client.watch(self._conversation_id) as events:
            async for event in events:
                self.transcript.apply(event)
                self._began.set()
                if event.WhichOneof("event") == "message" and is_final_reply(event.message):
                    break


def is_final_reply(message: Message) -> bool:
    return message.role == Message.ROLE_ASSISTANT and is_final(message)


async def ask(client: AsyncConversationClient, conversation_id: str, content: str) -> Message:
    """Sends, and checks that the pieces make the whole."""
    transcript = Transcript()
    async with client.send(conversation_id, content) as reply:
        async for event in reply:
            transcript.apply(event)
    assert reply.reply is not None
    assert transcript.messages[reply.reply.id].text == reply.reply.content
    return reply.reply


@SLOW_TO_START
async def test_clients_do_not_notice_that_a_server_is_stopped(
    home: Colloquy, processes: list[ServerProcess], tmp_path: Path
) -> None:
    key = (await home.account()).key
    async with (
        Envoy(tmp_path, [process.address for process in processes]) as envoy,
        AsyncConversationClient(envoy.address, key) as client,
    ):
        conversations = [await client.create_conversation() for _ in range(6)]
        # Half of them end while their server waits for them, the others are handed over.
        wants = ['[[{"tokens": 30, "rate": 50}]]', '[[{"tokens": 100, "rate": 50}]]'] * 3
        watches = [Following(client, conversation.id) for conversation in conversations]
        for watch in watches:
            await watch.began()
        asks = [
            asyncio.create_task(ask(client, conversation.id, content))
            for conversation, content in zip(conversations, wants, strict=True)
        ]
        await home.provider.wait_for_requests(6)
        hosts = await envoy.hosts()
        stopped = max(processes, key=lambda process: hosts[process.address]["rq_active"])
        assert hosts[stopped.address]["rq_active"] > 0
        ending = asyncio.create_task(stopped.end(signal.SIGTERM))
        calls = 0
        while not ending.done():
            await client.get_conversation(conversations[0].id)
            calls += 1
        assert await ending == 0
        assert calls > 1
        replies = await asyncio.gather(*asks)
        for conversation, reply, watch in zip(conversations, replies, watches, strict=True):
            prompt, stored = [message async for message in client.messages(conversation.id)]
            assert (reply.state, stored.state) == (Message.STATE_COMPLETED,) * 2
            assert reply.content == stored.content == await watch.text(reply.id)
            assert stored.reply_to == prompt.id


@SLOW_TO_START
async def test_a_dead_server_is_left_out_and_only_what_did_not_reach_it_is_sent_again(
    home: Colloquy, processes: list[ServerProcess], tmp_path: Path
) -> None:
    def take_time(config: Config) -> None:
        [check] = cluster(config)["health_checks"]
        check["interval"] = "1.5s"  # so that calls come before it

    async with (
        Envoy(tmp_path, [process.address for process in processes], take_time) as envoy,
        AsyncConversationClient(envoy.address, (await home.account("bob")).key) as client,
    ):
        alice = await through(envoy, home)
        conversations = [await alice.create() for _ in range(12)]
        its = await client.create_conversation()
        long = '[[{"tokens": 100, "rate": 50}]]'
        cut = alice.send(conversations[0].id, long)
        await cut.until("delta")
        hosts = await envoy.hosts()
        [victim] = [process for process in processes if hosts[process.address]["rq_active"]]
        dead = victim.address
        asking = asyncio.create_task(ask(client, its.id, long))
        await home.provider.wait_for_requests(2)

        await victim.end(signal.SIGKILL)
        # These calls repeat nothing themselves.
        sent = [alice.send(conversation.id) for conversation in conversations[1:]]
        replies = await asyncio.gather(*(stream.reply() for stream in sent))
        assert all(reply.state == Message.STATE_COMPLETED for reply in replies)
        assert await envoy.counter("upstream_rq_retry_success") > 0
        with pytest.raises(grpc.aio.AioRpcError):
            await cut.rest()
        for conversation in conversations:
            _, answer = await alice.history(conversation.id)  # one of each
            assert answer.role == Message.ROLE_ASSISTANT
        # A client of ours goes on where the stream broke, if it was on the one that died.
        reply = await asking
        assert reply.content == (await client.get_message(reply.id)).content

        await envoy.until(dead, is_healthy=False)
        before = await envoy.hosts()
        for conversation in conversations:
            await alice.conversation(conversation.id)
        after = await envoy.hosts()
        assert after[dead]["rq_total"] == before[dead]["rq_total"]

        await victim.start()
        await envoy.until(dead, is_healthy=True)
        while (await envoy.hosts())[dead]["rq_total"] == before[dead]["rq_total"]:
            await alice.conversation(conversations[0].id)


async def test_the_tls_of_the_readme(fleet: Colloquy, tmp_path: Path) -> None:
    certificate, private_key = self_signed(tmp_path)
    text = (DEPLOY / "README.md").read_text("utf-8")
    [block] = re.findall(r"```yaml\n(transport_socket:.*?)```", text, re.DOTALL)
    for there, here in (("/tls/cert.pem", certificate), ("/tls/key.pem", private_key)):
        assert there in block
        block = block.replace(there, str(here))

    def encrypt(config: Config) -> None:
        config["static_resources"]["listeners"][0]["filter_chains"][0] |= yaml.safe_load(block)

    async with Envoy(tmp_path, addresses(fleet), encrypt) as envoy:
        key = (await fleet.account()).key
        async with AsyncConversationClient(
            envoy.address, key, tls=True, ca_file=str(certificate)
        ) as client:
            conversation = await client.create_conversation()
            reply = await client.ask(conversation.id, "Hello")
            assert reply.state == Message.STATE_COMPLETED


def self_signed(folder: Path) -> tuple[Path, Path]:
    """The files of a certificate of 127.0.0.1 and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "colloquy")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    files = folder / "cert.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files
