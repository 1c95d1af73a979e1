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
    ("OIDC_ISSUER", "login.example.com"),
    ("OIDC_ISSUER", "http://login.example.com"),
    ("OIDC_ISSUER", "https://user@login.example.com"),
    ("OIDC_ISSUER", "https://login.example.com?tenant=1"),
    ("OIDC_ISSUER", "https://login.example.com:port"),
    ("OIDC_RULES", "rules.yml"),
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
    ("ADMIN_API_KEY", "x" * 31),
    ("ADMIN_API_KEY", "x" * 32 + ",short"),
    ("ADMIN_API_KEY", "ü" * 32),
    ("PROVISIONING_API_KEY", "x" * 31),
    ("KEY_CHECK_INTERVAL", "8.1"),
    ("MAX_FAILED_AUTHENTICATIONS", "0"),
    ("TRUSTED_PROXIES", "-1"),
    ("TRUSTED_PROXIES", "10.0.0.0/8"),
    ("MAX_FILE_BYTES_PER_ACCOUNT", "0"),
    ("MAX_CONVERSATIONS_PER_ACCOUNT", "many"),
    ("MAX_QUEUED_REPLIES_PER_ACCOUNT", "2147483648"),
    ("AUDIT_RETENTION_DAYS", "0"),
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
    monkeypatch.setenv("ADMIN_API_KEY", 4 * "hush-hush")
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


@pytest.mark.parametrize("name", ["GRPC_ADDRESS", "HTTP_ADDRESS"])
@pytest.mark.parametrize("address", LOOPBACK)
def test_loopback_needs_nothing(monkeypatch: pytest.MonkeyPatch, name: str, address: str) -> None:
    monkeypatch.setenv(name, address)
    assert getattr(load(), name.lower()) == address


@pytest.mark.parametrize("name", ["GRPC_ADDRESS", "HTTP_ADDRESS"])
@pytest.mark.parametrize("address", OPEN)
def test_any_other_address_needs_tls_or_leave(
    monkeypatch: pytest.MonkeyPatch, name: str, address: str
) -> None:
    monkeypatch.setenv(name, address)
    with pytest.raises(SettingsError, match=f"{name}.*TLS_CERT_FILE"):
        load()
    monkeypatch.setenv("ALLOW_INSECURE", "1")
    assert getattr(load(), name.lower()) == address


@pytest.mark.parametrize("address", [*LOOPBACK, *OPEN])
def test_metrics_which_hold_nothing_that_is_said_may_be_anywhere(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    assert load().prometheus_address is None
    monkeypatch.setenv("PROMETHEUS_ADDRESS", address)
    assert load().prometheus_address == address
    monkeypatch.setenv("PROMETHEUS_ADDRESS", "9464")
    with pytest.raises(SettingsError, match="PROMETHEUS_ADDRESS: must be HOST:PORT"):
        load()


def test_http_may_be_off_and_grpc_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().serves_http
    monkeypatch.setenv("HTTP_ADDRESS", "off")
    assert not load().serves_http
    monkeypatch.setenv("GRPC_ADDRESS", "off")
    with pytest.raises(SettingsError, match="GRPC_ADDRESS"):
        load()


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


KEYS = [f"{number:x}" * 32 for number in range(4)]


@pytest.mark.parametrize("between", [",", " ", " , ", "\n", ",,"])
def test_keys_of_the_platform_stand_in_a_list(
    monkeypatch: pytest.MonkeyPatch, between: str
) -> None:
    monkeypatch.setenv("ADMIN_API_KEY", between.join(KEYS[:2]))
    monkeypatch.setenv("PROVISIONING_API_KEY", between.join(KEYS[2:]))
    settings = load()
    assert settings.admin_keys == tuple(KEYS[:2])
    assert settings.provisioning_keys == tuple(KEYS[2:])
    monkeypatch.delenv("ADMIN_API_KEY")
    assert load().admin_keys == ()


@pytest.mark.parametrize("name", ["ADMIN_API_KEY", "PROVISIONING_API_KEY"])
def test_a_key_that_can_be_guessed_is_told_how_to_make_another_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, f"{KEYS[0]},hush-hush")
    with pytest.raises(SettingsError) as caught:
        load()
    assert "openssl rand -hex 32" in caught.value.message
    for secret in ("hush", KEYS[0]):
        assert secret not in caught.value.message


def test_no_key_is_the_platforms_and_for_provisioning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_API_KEY", ",".join(KEYS[:2]))
    monkeypatch.setenv("PROVISIONING_API_KEY", ",".join(KEYS[1:]))
    with pytest.raises(SettingsError, match="ADMIN_API_KEY and PROVISIONING_API_KEY") as caught:
        load()
    assert KEYS[1] not in caught.value.message


def test_a_revoked_key_is_looked_at_again_within_ten_seconds() -> None:
    assert load().key_check_interval <= 8  # and a read
