"""What the README shows can be pasted."""

from __future__ import annotations

from pathlib import Path

from colloquy_server.providers.catalog import Catalog

from tests.readme import block


def test_the_file_of_models_loads(tmp_path: Path) -> None:
    (tmp_path / "models.yml").write_text(block("yaml"))
    without_keys = Catalog.load(tmp_path / "models.yml", dict[str, str]().get)
    assert without_keys.available_ids() == ["llama3.2"]
    assert (model := without_keys.default()) is not None
    assert model.id == "llama3.2"
    assert without_keys.title() == model
    with_key = Catalog.load(tmp_path / "models.yml", {"VLLM_API_KEY": "key"}.get)
    assert (model := with_key.default()) is not None
    assert model.id == "Qwen/Qwen3-32B"
