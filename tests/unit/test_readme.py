"""What the README shows can be pasted."""

from __future__ import annotations

from pathlib import Path

from colloquy_server.providers.catalog import Catalog, Model

from tests.readme import block


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
