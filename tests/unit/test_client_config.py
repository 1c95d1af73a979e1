"""Which server, with which key: arguments beat the environment, that beats the defaults."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from colloquy import AsyncConversationClient, ConversationClient, channel
from colloquy.config import Endpoint, Tls, development_key, resolve
from colloquy.errors import ConfigurationError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, without a development key above it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_key(folder: Path, key: str = "clq_dev\n") -> None:
    (folder / "data").mkdir()
    (folder / "data" / "dev.key").write_text(key, "utf-8")


def test_arguments_beat_the_environment() -> None:
    environ = {"CONVERSATION_ADDRESS": "host:1", "CONVERSATION_API_KEY": "from-env"}
    assert resolve(environ=environ) == Endpoint("host:1", "from-env")
    assert resolve("other:2", "given", environ=environ) == Endpoint("other:2", "given")


def test_the_development_key_is_found_from_the_working_folder_upwards(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_key(folder)
    deeper = folder / "a" / "b"
    deeper.mkdir(parents=True)
    monkeypatch.chdir(deeper)
    assert resolve(environ={}) == Endpoint("127.0.0.1:50051", "clq_dev")
    assert development_key(folder) == "clq_dev"


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1:1", "localhost:1", "[::1]:1", "unix:/tmp/x", "http://127.0.0.9:1"),
        *("127.0.0.1", "localhost", "::1"),
    ],
)
def test_the_development_key_is_offered_on_this_machine(folder: Path, address: str) -> None:
    write_key(folder)
    assert resolve(address, environ={}).api_key == "clq_dev"


@pytest.mark.parametrize(
    "address",
    ["example.com:1", "https://example.com", "127.0.0.1.example.com:1", "10.0.0.1:1", "::2"],
)
def test_the_development_key_is_not_offered_to_strangers(folder: Path, address: str) -> None:
    write_key(folder)
    with pytest.raises(ConfigurationError, match="set CONVERSATION_API_KEY"):
        resolve(address, environ={})


def test_the_development_key_is_no_platform_key(folder: Path) -> None:
    write_key(folder)
    with pytest.raises(ConfigurationError, match="set ADMIN_API_KEY"):
        resolve(environ={}, key_variable="ADMIN_API_KEY")


@pytest.mark.parametrize("given", ["new,old", " new old ", ",new\n,old"])
def test_of_several_platform_keys_the_first_is_used(given: str) -> None:
    environ = {"ADMIN_API_KEY": given}
    assert resolve(environ=environ, key_variable="ADMIN_API_KEY").api_key == "new"
    assert resolve(api_key=given, environ={}, key_variable="ADMIN_API_KEY").api_key == "new"


def test_without_a_key_the_error_says_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match="colloquy serve --dev"):
        resolve(environ={})


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_key_file_is_no_key(folder: Path, text: str) -> None:
    write_key(folder, text)
    assert development_key(folder) is None


@pytest.mark.parametrize("key", ["line\nbreak", "schlüssel", "tab\tbed"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        resolve(api_key=key, environ={})
    assert key not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "target", "tls"),
    [
        ("host:7", "host:7", None),
        ("http://host:7", "host:7", None),
        ("https://host:7", "host:7", Tls()),
        ("https://host", "host:443", Tls()),
        ("https://host/", "host:443", Tls()),
        ("https://[::1]:7", "[::1]:7", Tls()),
        ("dns:///host:7", "dns:///host:7", None),
        ("unix:/tmp/x", "unix:/tmp/x", None),
        ("host", "host:50051", None),
        (" host:7\n", "host:7", None),
        ("10.0.0.1", "10.0.0.1:50051", None),
        ("::1", "[::1]:50051", None),
        ("fe80::1%eth0", "[fe80::1%eth0]:50051", None),
        ("[::1]", "[::1]:50051", None),
        ("[::1]:7", "[::1]:7", None),
    ],
)
def test_an_address_says_whether_it_is_encrypted(
    address: str, target: str, tls: Tls | None
) -> None:
    endpoint = resolve(address, "k", environ={})
    assert (endpoint.address, endpoint.tls) == (target, tls)


@pytest.mark.parametrize(
    "address",
    [
        *("https://", "https://host:x", "https://host/path"),
        *(
            "host:",
            "host:x",
            "host:0",
            "host:65536",
            "host/path",
            "a b",
            "user@host",
            "::1x:1",
            "[::1",
        ),
    ],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError, match="is not an address"):
        resolve(address, "k", environ={})


def test_certificates_ask_for_tls() -> None:
    assert resolve("host:7", "k", tls=True, environ={}).tls == Tls()
    assert resolve("host:7", "k", ca_file="ca.pem", environ={}).tls == Tls("ca.pem")
    environ = {"CONVERSATION_TLS_CERT_FILE": "c.pem", "CONVERSATION_TLS_KEY_FILE": "k.pem"}
    assert resolve("host:7", "k", environ=environ).tls == Tls(None, "c.pem", "k.pem")
    with pytest.raises(ConfigurationError, match="its key's file"):
        resolve("host:7", "k", cert_file="c.pem", environ={})


def test_a_certificate_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read nowhere\.pem"):
        channel.credentials(Tls("nowhere.pem"))


def test_the_key_shows_in_no_repr() -> None:
    client = ConversationClient("127.0.0.1:1", "clq_secret")
    asynchronous = AsyncConversationClient("127.0.0.1:1", "clq_secret")
    shown = repr(resolve(api_key="clq_secret", environ={})) + repr(client) + repr(asynchronous)
    assert "clq_secret" not in shown
    client.close()


def test_a_proxy_of_the_environment_is_not_asked_for_what_is_on_this_machine() -> None:
    local = dict(channel.options(Endpoint("127.0.0.1:1", "k")))
    remote = dict(channel.options(Endpoint("example.com:1", "k")))
    assert local["grpc.enable_http_proxy"] == 0
    assert remote["grpc.enable_http_proxy"] == 1


def test_clients_ping_less_often_than_servers_permit() -> None:
    options = dict(channel.options(Endpoint("127.0.0.1:1", "k")))
    assert int(options["grpc.keepalive_time_ms"]) >= 30_000
    assert options["grpc.keepalive_permit_without_calls"] == 0
    assert isinstance(channel.credentials(Tls()), grpc.ChannelCredentials)


def test_a_function_gives_the_key_of_each_call() -> None:
    keys = iter(["first", " second\n", "k\u00e9y"])
    endpoint = resolve("host:1", lambda: next(keys), environ={"CONVERSATION_API_KEY": "from-env"})
    assert channel.metadata(endpoint) == (("authorization", "Bearer first"),)
    assert channel.metadata(endpoint) == (("authorization", "Bearer second"),)
    with pytest.raises(ConfigurationError, match="the token has characters"):
        channel.metadata(endpoint)
