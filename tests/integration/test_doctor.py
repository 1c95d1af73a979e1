"""`colloquy doctor`: what is well is told, and each trouble by its own line with what to do."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import web
from colloquy.operations.checkup import Finding, Level, examine, misspelt
from colloquy_server import process as server
from colloquy_server.database import migrate
from colloquy_server.doctor import around
from colloquy_slack.settings import Settings as SlackSettings
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests import postgres
from tests.fakes.provider import ProviderDouble
from tests.fakes.slack import SlackDouble
from tests.forked import Forked
from tests.harness import ADMIN_KEY, Colloquy

DOUBLE_KEY = "the-key-of-the-double"


class Refusing(ProviderDouble):
    """A provider that takes no key."""

    def _route(self, router: web.UrlDispatcher) -> None:
        router.add_get("/v1/models", self._refuse)

    async def _refuse(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"code": "invalid_api_key"}}, status=401)


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Colloquy]:
    """A server that runs, and its settings in the environment."""
    async with Colloquy(tmp_path) as running:
        for name in list(os.environ):
            if name.upper() not in ("PATH", "HOME", "TMPDIR", "PYTEST_CURRENT_TEST"):
                monkeypatch.delenv(name)
        settings = {
            "DATABASE_URL": running.database_url,
            "STORAGE_URL": f"file://{tmp_path}/files",
            "AI_MODELS_FILE": str(running.models_file),
            "GRPC_ADDRESS": f"127.0.0.1:{running.app.port}",
            "HTTP_ADDRESS": f"127.0.0.1:{running.app.http_port}",
            "ADMIN_API_KEY": ADMIN_KEY,
            "DOUBLE_KEY": DOUBLE_KEY,
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        yield running


async def found(*wanted: str) -> list[Finding]:
    return [finding async for finding in examine(wanted)]


async def trouble(what: str) -> Finding:
    """The one thing of this name that is not well."""
    bad = [one for one in await found() if one.level is not Level.OK]
    assert [one.what for one in bad] == [what], "\n".join(map(str, bad))
    assert bad[0].remedy
    return bad[0]


async def test_where_all_is_well_it_says_so_and_no_secret(here: Colloquy) -> None:
    findings = await found()
    assert [str(one) for one in findings if one.level is not Level.OK] == []
    assert {one.what for one in findings} >= {
        *("settings", "database", "clock", "bus", "models", "provider double", "store", "disk"),
        *("TLS", "ports"),
    }
    said = "\n".join(map(str, findings))
    assert ADMIN_KEY not in said
    assert DOUBLE_KEY not in said
    assert "a server of Colloquy's serves here now" in said
    assert list((here.folder / "files").rglob("*")) == []


TROUBLES = [
    ("LEASE_TTL", "soon", "settings", Level.FAIL, "LEASE_TTL: "),
    ("DATABSE_URL", "x", "settings", Level.WARN, "DATABSE_URL is no setting"),
    ("DATABASE_URL", "sqlite:///{}/ai_models.yml", "database", Level.FAIL, "not a database"),
    ("AI_MODELS_FILE", "{}/nothing.yml", "models", Level.FAIL, "nothing.yml"),
    ("DOUBLE_KEY", "", "models", Level.FAIL, "none can be used"),
    ("STORAGE_URL", "file://{}/ai_models.yml/x", "store", Level.FAIL, "cannot be used"),
    ("OIDC_ISSUER", "http://127.0.0.1:9", "identity provider", Level.WARN, "no token"),
    ("ALLOW_INSECURE", "1", "TLS", Level.WARN, "off"),
    ("HTTP_ADDRESS", "off", "ports", Level.WARN, "cannot listen"),
]
"""By a setting, and its value."""


async def test_each_trouble_has_a_line_of_its_own(
    here: Colloquy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value, what, level, said in TROUBLES:
        with monkeypatch.context() as patch:
            patch.setenv(name, value.format(here.folder))
            finding = await trouble(what)
        assert (finding.level, said in finding.said) == (level, True), finding


async def test_an_identity_provider_that_is_away_is_told(
    here: Colloquy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OIDC_ISSUER", "http://127.0.0.1:9")
    monkeypatch.setenv("OIDC_AUDIENCE", "colloquy")
    monkeypatch.setenv("OIDC_RULES", "{wrong")
    assert (await trouble("identity provider")).remedy == "change OIDC_RULES"
    monkeypatch.setenv("OIDC_RULES", '[{"when": {"sub": "*"}, "account": "a", "role": "member"}]')
    assert "127.0.0.1:9" in (await trouble("identity provider")).said


async def test_a_key_that_a_provider_refuses_is_told(
    here: Colloquy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Refusing() as refusing:
        models = here.models.format(base_url=refusing.base_url).replace("  strict: ", "  # ")
        here.models_file.write_text(models.replace("provider: strict", "provider: double"))
        finding = await trouble("provider double")
    assert (finding.said, finding.remedy) == ("it refuses the key", "see DOUBLE_KEY")
    assert finding.level is Level.FAIL


async def test_a_disk_that_is_nearly_full_is_told(
    here: Colloquy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for free, level in ((500 << 20, Level.WARN), (5 << 20, Level.FAIL)):
        usage = SimpleNamespace(free=free)
        monkeypatch.setattr("shutil.disk_usage", lambda _, usage=usage: usage)
        bad = {one.what: one.level for one in await found() if one.level is not Level.OK}
        assert bad == {"disk": level}


def certificate(folder: Path, days: int) -> None:
    """Writes a certificate that ends in so many days, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    end = datetime.now(UTC) + timedelta(days=days, hours=1)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    made = builder.not_valid_before(end - timedelta(days=90)).not_valid_after(end)
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@pytest.mark.parametrize(("days", "level"), [(60, Level.OK), (20, Level.WARN), (-2, Level.FAIL)])
def test_a_certificate_that_ends_is_told(days: int, level: Level, tmp_path: Path) -> None:
    certificate(tmp_path, days)
    assert around._expiry("TLS_CERT_FILE", tmp_path / "cert.pem").level is level


async def test_of_a_postgres_it_tells_the_schema_and_tries_the_bus(
    here: Colloquy, monkeypatch: pytest.MonkeyPatch, postgres_server: str
) -> None:
    with postgres.empty_database(postgres_server) as url:
        monkeypatch.setenv("DATABASE_URL", url)
        finding = await trouble("database")
        assert (finding.level, finding.remedy) == (Level.FAIL, "run `colloquy migrate`")
        migrate.upgrade(url)
        findings = [str(one) for one in await found()]
        assert f"ok    database: schema {migrate.head()}, this version's own" in findings
        assert "ok    bus: a notification came through" in findings
        monkeypatch.setenv("EVENT_BUS_URL", "memory://")
        assert (await trouble("bus")).level is Level.WARN


async def test_of_the_slack_bot_it_tries_tokens_database_and_server(
    here: Colloquy, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = await here.account("slack")
    async with SlackDouble() as slack:
        settings = {
            "SLACK_API_URL": slack.api_url,
            "SLACK_BOT_TOKEN": str(slack.workspace.bot_token),
            "SLACK_APP_TOKEN": slack.app.app_token,
            "CONVERSATION_ADDRESS": f"127.0.0.1:{here.app.port}",
            "CONVERSATION_API_KEY": caller.key,
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        said = [str(one) for one in await found("slack")]
        assert len(said) == 5
        assert all(line.startswith("ok ") for line in said), said
        assert "xoxb-" not in "".join(said)
        for name in ("SLACK_BOT_TOKEN", "SLACK_APP_TOKEN", "CONVERSATION_API_KEY"):
            with monkeypatch.context() as patch:
                patch.setenv(name, f"{settings[name]}-not")
                [bad] = [one for one in await found("slack") if one.level is not Level.OK]
                assert bad.level is Level.FAIL
                assert name in bad.remedy
        monkeypatch.setenv("SLACK_API_URL", "http://127.0.0.1:1/api/")
        monkeypatch.setattr("colloquy_slack.doctor._PATIENCE", 0.1)
        bad_ones = [one for one in await found("slack") if one.level is not Level.OK]
        assert len(bad_ones) == 2, "nobody says that the tokens are wrong"
        assert all("SLACK_API_URL" in one.remedy for one in bad_ones)


def test_only_what_looks_like_a_slip_is_taken_for_one() -> None:
    known = {"DATABASE_URL", "TLS_CERT_FILE", "OPENAI_API_KEY", "LOG_FORMAT"}
    known |= {name.upper() for name in SlackSettings.model_fields}
    slips = ["DATABASE_URI", "OPENAI_APIKEY", "SLACK_BOT_TOKN", "log_formt"]
    others = ["PATH", "HOME", "SSL_CERT_FILE", "LOG_LEVEL", "DATABASE_URL", "database_url"]
    assert [name for name, _ in misspelt([*slips, *others], known)] == sorted(slips)


@pytest.mark.parametrize(("grpc", "code"), [("127.0.0.1:0", 0), ("nowhere", 1)])
async def test_the_command_ends_with_1_when_something_would_not_run(
    here: Colloquy, grpc: str, code: int
) -> None:
    with tempfile.TemporaryFile() as output:
        process = await Forked.start(
            functools.partial(server.run_doctor, ["server"]),
            environment={**os.environ, "GRPC_ADDRESS": grpc},
            folder=here.folder,
            output=output.fileno(),
        )
        assert await process.wait() == code
        output.seek(0)
        lines = output.read().decode().splitlines()
    assert lines[-1].endswith(f" ok, 0 warn, {code} fail")
