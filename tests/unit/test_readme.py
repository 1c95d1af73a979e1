"""What the README shows can be pasted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from colloquy_server.providers.catalog import Catalog, Model

from tests.readme import README, block, commands


def test_the_file_of_models_loads(tmp_path: Path) -> None:
    (tmp_path / "models.yml").write_text(block("yaml"))
    without_keys = Catalog.load(tmp_path / "models.yml", dict[str, str]().get)
    assert without_keys.available_ids() == []
    (ollama,) = without_keys.discovering
    without_keys.put_found(ollama, [Model("llama3.2", ollama, frozenset(), 8192, 2048, 0, 0)])
    assert (model := without_keys.default()) is not None
    assert model.id == "llama3.2"
    assert without_keys.title() == model
    with_key = Catalog.load(tmp_path / "models.yml", {"AZURE_OPENAI_API_KEY": "key"}.get)
    assert (model := with_key.default()) is not None
    assert (model.id, model.provider_name) == ("gpt-5", "our-gpt-5")
    assert model.provider.query == (("api-version", "2024-10-21"),)


def test_code_is_made_of_the_protos_and_nothing_else(tmp_path: Path) -> None:
    for folder in ("protos", "third_party"):
        (tmp_path / folder).symlink_to(README.parent / folder)
    making = commands("grpc_tools.protoc").split("python -m", 1)[1]
    environ = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    script = f"set -e; mkdir -p generated; python -m{making}cd generated; python -c "
    words = "from conversation.v1 import conversation_service_pb2_grpc as made; print(*dir(made))"
    made = subprocess.run(
        ["bash", "-c", f"{script}'{words}'"],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (made.returncode, made.stderr) == (0, "")
    assert "ConversationServiceStub" in made.stdout.split()
