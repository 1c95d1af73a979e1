"""Settings: a wrong value stops the start with one clear line, and nothing unsafe is served."""

from __future__ import annotations

from pathlib import Path

import pytest
from colloquy_server.settings import Settings, SettingsError, load


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(name, raising=False)


WRONG = [
    ("GRPC_ADDRESS", "nonsense"),
    ("GRPC_ADDRESS", "127.0.0.1"),
    ("GRPC_ADDRESS", ":50051"),
    ("GRPC_ADDRESS", "127.0.0.1:65536"),
    ("GRPC_ADDRESS", "127.0.0.1:-1"),
    ("GRPC_ADDRESS", "127.0.0.1:http"),
    ("DATABASE_URL", "mysql://localhost/x"),
    ("DATABASE_URL", "conversations.db"),
    ("DATABASE_URL", "postgresql://localhost:port/x"),
    ("DATABASE_URL", "sqlite:///"),
    ("DATABASE_URL", "sqlite:///?timeout=1"),
    ("DATABASE_URL", "sqlite:///:memory:"),
    ("EVENT_BUS_URL", "redis://localhost"),
    ("EVENT_BUS_URL", "postgresql://localhost:port/x"),
    ("SENTRY_DSN", "garbage"),
    ("SENTRY_DSN", "https://example.com"),
    ("STORAGE_URL", "ftp://localhost"),
    ("SHUTDOWN_GRACE", "-1"),
    ("SHUTDOWN_GRACE", "soon"),
    ("LEASE_TTL", "0"),
    ("LEASE_TTL", "nan"),
    ("LEASE_TTL", "inf"),
    ("PROVIDER_ATTEMPTS", "0"),
    ("PROVIDER_ATTEMPTS", "2.5"),
    ("MAX_LIVE_REPLIES", "many"),
    ("MAX_QUEUED_PER_CONVERSATION", "-3"),
    ("MAX_REQUESTS_PER_SECOND", "0"),
    ("LOG_FORMAT", "xml"),
    ("ALLOW_INSECURE", "perhaps"),
    ("TLS_CERT_FILE", "missing.pem"),
    ("TLS_KEY_FILE", "missing.pem"),
    ("TLS_CLIENT_CA_FILE", "missing.pem"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load()
    assert name in caught.value.message
    assert "\n" not in caught.value.message
    assert "pydantic" not in caught.value.message


def test_all_wrong_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEASE_TTL", "x")
    monkeypatch.setenv("LOG_FORMAT", "x")
    with pytest.raises(SettingsError) as caught:
        load()
    assert "LEASE_TTL" in caught.value.message
    assert "LOG_FORMAT" in caught.value.message


def test_secrets_are_in_no_error_and_in_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_API_KEY", "hush-hush")
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:hush-hush@localhost/x")
    assert "hush-hush" not in repr(load())
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:hush-hush@localhost:port/x")
    with pytest.raises(SettingsError) as caught:
        load()
    assert "hush-hush" not in caught.value.message
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("SENTRY_DSN", "ftp://hush-hush@localhost/1")
    monkeypatch.setenv("EVENT_BUS_URL", "postgresql://me:hush-hush@localhost:port/x")
    with pytest.raises(SettingsError) as caught:
        load()
    assert "hush-hush" not in caught.value.message


def test_the_environment_beats_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("LEASE_TTL=7\nSHUTDOWN_GRACE=8\nOPENAI_API_KEY=file\nOTHER=1\n")
    monkeypatch.setenv("LEASE_TTL", "9")
    monkeypatch.setenv("OPENAI_API_KEY", "environment")
    settings = load()
    assert (settings.lease_ttl, settings.shutdown_grace) == (9, 8)
    assert settings.environ["OPENAI_API_KEY"] == "environment"
    assert settings.environ["OTHER"] == "1"


def test_an_empty_value_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("LEASE_TTL=\nADMIN_API_KEY=\n")
    monkeypatch.setenv("GRPC_ADDRESS", "")
    settings = load()
    assert settings.lease_ttl == 5
    assert settings.admin_api_key is None
    assert settings.grpc_address == "127.0.0.1:50051"


def test_a_file_that_is_not_utf_8_is_named() -> None:
    Path(".env").write_bytes(b"LEASE_TTL=7\nOTHER=\xff\xfe\n")
    with pytest.raises(SettingsError, match=r"^\.env") as caught:
        load()
    assert "\n" not in caught.value.message


LOOPBACK = ["127.0.0.1:1", "127.9.8.7:1", "localhost:1", "[::1]:1"]
OPEN = ["0.0.0.0:1", "[::]:1", "192.168.0.7:1", "example.com:1", "127.0.0.1.example.com:1", "*:1"]


@pytest.mark.parametrize("address", LOOPBACK)
def test_loopback_needs_nothing(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("GRPC_ADDRESS", address)
    assert load().is_loopback


@pytest.mark.parametrize("address", OPEN)
def test_any_other_address_needs_tls_or_leave(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("GRPC_ADDRESS", address)
    with pytest.raises(SettingsError, match="TLS_CERT_FILE"):
        load()
    monkeypatch.setenv("ALLOW_INSECURE", "1")
    assert not load().is_loopback


def test_tls_files_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("c.pem").write_text("x")
    monkeypatch.setenv("TLS_CERT_FILE", "c.pem")
    with pytest.raises(SettingsError, match="TLS_KEY_FILE"):
        load()


def test_files_that_are_no_certificate_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("c.pem").write_text("x")
    monkeypatch.setenv("TLS_CERT_FILE", "c.pem")
    monkeypatch.setenv("TLS_KEY_FILE", "c.pem")
    with pytest.raises(SettingsError, match="TLS_CERT_FILE") as caught:
        load()
    assert "\n" not in caught.value.message
