"""What docs/webhooks.md shows receivers tells what is genuine from what is not."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from colloquy_server.webhooks.signing import new_secret, sign

from tests.typescript import NODE

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "webhooks.md"
BODY = '{"type":"reply.completed"}'


def block(language: str) -> str:
    """The document's code in a language."""
    found = re.search(rf"^```{language}\n(.*?)^```", DOCUMENT.read_text("utf-8"), re.M | re.S)
    assert found is not None
    return found.group(1)


def python(cases: list[tuple[str, dict[str, str], str]], _folder: Path) -> list[bool]:
    names: dict[str, Any] = {}
    exec(block("python"), names)
    return [names["is_genuine"](secret, headers, body.encode()) for secret, headers, body in cases]


def node(cases: list[tuple[str, dict[str, str], str]], folder: Path) -> list[bool]:
    script = folder / "sample.ts"
    script.write_text(
        block("ts")
        + f"const cases: [string, Record<string, string>, string][] = {json.dumps(cases)};\n"
        + "console.log(JSON.stringify(cases.map(([s, h, b]) => isGenuine(s, h, Buffer.from(b)))));"
    )
    done = subprocess.run([NODE, script], capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout))


@pytest.mark.parametrize("judge", [python, node])
def test_the_samples_take_what_is_signed_and_nothing_else(
    judge: Callable[[list[tuple[str, dict[str, str], str]], Path], list[bool]], tmp_path: Path
) -> None:
    secret, other, now = new_secret(), new_secret(), int(time.time())

    def case(
        *, by: str = secret, sent: int = now, body: str = BODY, id_: str = "id"
    ) -> tuple[str, dict[str, str], str]:
        headers = {
            "webhook-id": id_,
            "webhook-timestamp": f"{sent}",
            "webhook-signature": f"v1a,none {sign(by, 'id', sent, BODY.encode())}",
        }
        return secret, headers, body

    cases = [case(), case(by=other), case(body=f"{BODY} "), case(id_="x"), case(sent=now - 3_600)]
    assert judge(cases, tmp_path) == [True, False, False, False, False]
