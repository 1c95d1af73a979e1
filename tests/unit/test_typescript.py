"""The TypeScript library alone: its own tests, and the package that others install."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.typescript import NODE, PACKAGE

TOOLS = Path(sys.executable).parent

USES_THE_PACKAGE = """
import { applyEvent, createClient, emptyConversation } from "@colloquy/client";
import type { ConversationState } from "@colloquy/client";
const client = createClient({ baseUrl: "http://127.0.0.1:1", apiKey: "clq" });
const state: ConversationState = emptyConversation;
console.log(typeof client.send, typeof applyEvent, state.messages.length);
"""


def node(*arguments: str | Path, cwd: Path) -> str:
    """What Node says."""
    done = subprocess.run([NODE, *arguments], cwd=cwd, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.timeout(540)
def test_its_own_tests_pass() -> None:
    said = node(
        "--test", "--test-timeout=60000", "--test-reporter=tap", "tests/*.test.ts", cwd=PACKAGE
    )
    assert "# pass 0" not in said
    assert "# fail 0" in said


@pytest.mark.timeout(540)
def test_the_package_works_where_it_is_installed(tmp_path: Path) -> None:
    """Built and packed, it has types, and needs protobuf-es and Connect alone."""
    subprocess.run(
        [TOOLS / "npm", "run", "--silent", "package", "--", "--pack-destination", tmp_path],
        cwd=PACKAGE,
        env={**os.environ, "PATH": os.pathsep.join([str(TOOLS), os.environ["PATH"]])},
        check=True,
    )
    [packed] = tmp_path.glob("*.tgz")
    installed = tmp_path / "node_modules" / "@colloquy" / "client"
    installed.mkdir(parents=True)
    subprocess.run(["tar", "-xzf", packed, "-C", installed, "--strip-components=1"], check=True)
    described = json.loads((installed / "package.json").read_text())
    assert all(
        name.split("/")[0] in ("@bufbuild", "@connectrpc") for name in described["dependencies"]
    )
    for scope in ("@bufbuild", "@connectrpc"):
        (tmp_path / "node_modules" / scope).symlink_to(PACKAGE.parent / "node_modules" / scope)
    use = tmp_path / "use.ts"
    use.write_text(USES_THE_PACKAGE)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    assert node(use, cwd=tmp_path) == "function function 0\n"
    compiler = PACKAGE.parent / "node_modules" / "typescript" / "bin" / "tsc"
    options = ("--noEmit", "--strict", "--module", "nodenext", "--target", "es2022")
    node(compiler, *options, "--lib", "es2023,dom", use, cwd=tmp_path)
