"""The models file: what is shipped, what is available, and what is wrong with a bad one."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from colloquy_server.providers.catalog import Catalog, CatalogError, ModelError, Weights
from colloquy_server.providers.catalog_file import (
    FileEntry,
    ModelEntry,
    ProviderEntry,
    TimeoutsEntry,
    WeightsEntry,
)

SHIPPED = Path(__file__).parents[2] / "config" / "ai_models.yml"
CHAT = {
    "provider": "remote",
    "context_window": 1000,
    "max_output_tokens": 100,
    "input_price": 1,
    "output_price": 2.5,
}


BAD_URLS = (
    "ftp://x",
    "api.example.com/v1",
    "https:///v1",
    "http://x:port/v1",
    "http://x:99999/v1",
    "http://[x/v1",
    "http://x y/v1",
    "http://x/v1#part",
    "http://x/v1/chat/completions",
    "http://x/v1/chat/completions/?api-version=1",
    "http://user:word@x/v1",
    "http://{model}.example.com/v1",
)


WRONG_PROVIDERS: list[tuple[dict[str, Any], str]] = [
    ({"api_key_env": "sk-proj-1234"}, "api_key_env: must be the name of an environment variable"),
    ({"api_key_header": "api key"}, "api_key_header: is not the name of a header"),
    ({"headers": {"x team": "a"}}, "headers.x team: is not the name of a header"),
    ({"headers": {"Content-Type": "a"}}, "headers.Content-Type"),
    ({"headers": {"x-team": "a\nb"}}, "headers.x-team: may hold printable"),
    ({"headers": {"x-team": "é"}}, "headers.x-team: may hold printable"),
    ({"headers": {"x-team": "a", "X-Team": "b"}}, "headers: one is there twice"),
    ({"headers": {"authorization": "a"}, "api_key_env": "K"}, "is what the key is sent as"),
    ({"headers": ["a"]}, "headers"),
    ({"query": {"a": {"b": 1}}}, "query.a"),
    ({"query": {"a": None}}, "query.a"),
    ({"output_limit": "max_output"}, "output_limit"),
    ({"timeouts": {"first_byte": 0}}, "timeouts.first_byte"),
    ({"timeouts": {"idle": "60s"}}, "timeouts.idle"),
    ({"timeouts": {"first": 5}}, "timeouts.first: there is no such field; is first_byte meant?"),
    ({"timeout": 5}, "timeout: there is no such field; is timeouts meant?"),
    ({"context_window": 5}, "context_window is for discovered models"),
    ({"output_price": 5}, "output_price is for discovered models"),
    ({"discover": "yes"}, "discover"),
    ({"discover": True, "context_window": 5, "max_output_tokens": 5}, "must be smaller"),
    ({"discover": True, "base_url": None, "api_key_env": "K"}, "discover needs a base_url"),
    ({"discover": True, "base_url": "http://x/{model}"}, "discover needs a base_url"),
    ({"weights": {"package": "a", "file": "b", "sha256": "0" * 64}}, "weights stand alone"),
]


def no_environ(_name: str) -> None:
    return None


def content(**changes: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "providers": {
            "remote": {"api_key_env": "REMOTE_KEY"},
            "ollama": {"base_url": "http://127.0.0.1:11434/v1"},
        },
        "models": {"chat": dict(CHAT), "llama": {**CHAT, "provider": "ollama"}},
        "default_model": ["chat", "llama"],
        "title_model": "llama",
    }
    return {**whole, **changes}


WRONG_FALLBACKS: list[tuple[Any, str]] = [
    (["chat"], "models.chat.fallbacks: name others than the model itself"),
    (["llama", "llama"], "models.chat.fallbacks: a model is there twice"),
    (["lama"], 'models.chat.fallbacks: no model "lama"'),
    (3, "models.chat.fallbacks: "),
]


@pytest.mark.parametrize(("fallbacks", "told"), WRONG_FALLBACKS)
def test_fallbacks_that_cannot_be_meant_stop_the_start(
    tmp_path: Path, fallbacks: object, told: str
) -> None:
    value = content()
    value["models"]["chat"]["fallbacks"] = fallbacks
    with pytest.raises(CatalogError, match=re.escape(told)):
        load(tmp_path, value)


def test_fallbacks_are_other_models_of_the_file_or_what_a_server_may_be_found_to_have(
    tmp_path: Path,
) -> None:
    value = content()
    value["models"]["chat"]["fallbacks"] = ["llama"]
    catalog = load(tmp_path, value)
    assert [catalog.fallbacks(name) for name in ("chat", "llama", "no such")] == [
        ("llama",),
        (),
        (),
    ]
    value["providers"]["ollama"]["discover"] = True
    value["models"]["chat"]["fallbacks"] = "llama3.2"
    assert load(tmp_path, value).fallbacks("chat") == ("llama3.2",)


def test_what_is_said_to_a_shipped_model_goes_to_no_other() -> None:
    assert not any(model.fallbacks for model in Catalog.load(SHIPPED, no_environ).models)


def test_the_shipped_file_offers_a_second_provider_with_a_key_of_its_own() -> None:
    both = Catalog.load(SHIPPED, {"OPENAI_API_KEY": "1", "ANTHROPIC_API_KEY": "2"}.get)
    model = both.resolve("claude-sonnet-5-5")
    assert model.provider.base_url == "https://api.anthropic.com/v1/"
    assert model.provider.author_names == "envelope"
    assert both.resolve("gpt-4o").provider.author_names == "field"
    assert model.provider.alternate_roles
    assert not both.resolve("gpt-4o").provider.alternate_roles
    assert "gpt-4o" not in Catalog.load(SHIPPED, {"ANTHROPIC_API_KEY": "2"}.get).available_ids()


@pytest.mark.parametrize(
    ("key", "default", "title"),
    [
        ("OPENAI_API_KEY", "gpt-4o", "gpt-4o-mini"),
        ("ANTHROPIC_API_KEY", "claude-sonnet-5-5", "claude-haiku-5-5"),
        ("GEMINI_API_KEY", "gemini-3.8-flash", "gemini-3.1-flash-lite"),
        ("MISTRAL_API_KEY", "mistral-medium-3-5", "mistral-small-2603"),
    ],
)
def test_with_one_providers_key_its_model_is_the_default(
    key: str, default: str, title: str
) -> None:
    catalog = Catalog.load(SHIPPED, {key: "1"}.get)
    chosen, namer = catalog.default(), catalog.title()
    assert chosen is not None
    assert namer is not None
    assert (chosen.id, namer.id) == (default, title)
    assert chosen.provider.api_key_env == key


def test_who_chose_no_model_is_told_why_there_is_none(tmp_path: Path) -> None:
    file = tmp_path / "models.yml"
    file.write_text(
        "providers:\n"
        "  keyed: {base_url: 'https://example.com/v1', api_key_env: SOME_KEY}\n"
        "  ollama: {base_url: 'http://127.0.0.1:11434/v1', discover: true}\n"
        "models:\n"
        "  large: {provider: keyed, context_window: 8000, max_output_tokens: 100,"
        " input_price: 0, output_price: 0}\n"
        "default_model: [llama3.2]\ntitle_model: [llama3.2]\n"
    )
    nothing = Catalog.load(file, no_environ).no_default("model")
    assert "No model is available: set a provider's key on the server, or" in str(nothing)
    assert "ollama" in str(nothing)
    others = Catalog.load(file, {"SOME_KEY": "1"}.get).no_default("model")
    assert "None of default_model is available. Available models: large." in str(others)


def test_with_every_key_the_default_stays_what_it_is() -> None:
    catalog = Catalog.load(SHIPPED, lambda name: "1" if name.endswith("_KEY") else None)
    assert [model.id for model in catalog.models] == catalog.available_ids()
    default = catalog.default()
    assert default is not None
    assert default.id == "gpt-4o"
    assert all(0 < model.output_price < 1 for model in catalog.models if model.id != "smollm2-135m")


def test_every_field_of_the_file_is_described_in_the_shipped_one() -> None:
    kinds = (FileEntry, ProviderEntry, ModelEntry, TimeoutsEntry, WeightsEntry)
    names = {name for kind in kinds for name in kind.model_fields} - {"package", "file", "sha256"}
    described = [line for line in SHIPPED.read_text("utf-8").splitlines() if line.startswith("#")]
    lacking = {
        name for name in names if not any(re.search(rf"^#.*\b{name}\b", line) for line in described)
    }
    assert not lacking


def test_the_example_in_the_comments_is_a_catalogue(tmp_path: Path) -> None:
    comments = SHIPPED.read_text("utf-8").partition("# For example")[2].partition("\n\n")[0]
    lines = [line.removeprefix("#") for line in comments.splitlines()]
    example = "\n".join(line for line in lines if line.startswith("   "))
    catalog = load(tmp_path, example, {"AZURE_OPENAI_API_KEY": "1"})
    assert [provider.id for provider in catalog.discovering] == ["ollama"]
    assert catalog.available_ids() == ["azure-gpt-5"]
    assert catalog.models[0].provider.query == (("api-version", "2024-10-21"),)


def load(tmp_path: Path, value: object, environ: dict[str, str] | None = None) -> Catalog:
    path = tmp_path / "models.yml"
    path.write_text(value if isinstance(value, str) else yaml.safe_dump(value, sort_keys=False))
    return Catalog.load(path, (environ or {}).get)


def test_the_shipped_file_offers_openai_with_a_key_and_the_local_model_without() -> None:
    with_key = Catalog.load(SHIPPED, {"OPENAI_API_KEY": "sk-1"}.get)
    offered = with_key.available_ids()
    assert (offered[:2], offered[-1]) == (["gpt-4o", "gpt-4o-mini"], "smollm2-135m")
    assert {"gpt-5", "gpt-5-mini", "gpt-5.6-terra"} < set(offered)
    default, title = with_key.default(), with_key.title()
    assert default is not None
    assert default.id == "gpt-4o"
    assert default.input_kinds == {"image", "document"}
    assert title is not None
    assert title.id == "gpt-4o-mini"

    transcriber = with_key.transcription()
    assert transcriber is not None
    assert transcriber.provider.id == "openai"

    without_key = Catalog.load(SHIPPED, no_environ)
    assert without_key.transcription() is None
    local = without_key.default()
    assert local is not None
    assert local.id == "smollm2-135m"
    assert local == without_key.title()
    assert without_key.available_ids() == ["smollm2-135m"]
    assert (local.context_window, local.max_output_tokens) == (4096, 512)
    assert local.rules.fields["repeat_penalty"] > 1


def test_a_model_whose_key_is_not_set_is_listed_but_not_available(tmp_path: Path) -> None:
    for environ in ({}, {"REMOTE_KEY": ""}, {"REMOTE_KEY": "  "}):
        catalog = load(tmp_path, content(), environ)
        assert [catalog.is_available(model) for model in catalog.models] == [False, True]
        with pytest.raises(ModelError, match="llama") as caught:
            catalog.resolve("chat")
        assert caught.value.reason == "MODEL_UNAVAILABLE"
        assert catalog.default() == catalog.resolve("llama")
    assert load(tmp_path, content(), {"REMOTE_KEY": "k"}).resolve("chat").id == "chat"


def test_a_model_that_is_not_in_the_file_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Available models: llama") as caught:
        load(tmp_path, content()).resolve("gpt-9")
    assert caught.value.reason == "MODEL_UNKNOWN"


def test_a_long_offer_ends_with_how_many_more_there_are(tmp_path: Path) -> None:
    many = {
        f"some-vendor/a-model-of-theirs-{n:03}": {**CHAT, "provider": "ollama"} for n in range(99)
    }
    catalog = load(tmp_path, content(models={**content()["models"], **many}))
    with pytest.raises(ModelError) as caught:
        catalog.resolve("gpt-9" * 50)
    told = caught.value.fields["model"]
    shown = [name for name in many if name in told]
    assert shown == list(many)[: len(shown)]
    assert 10 < len(shown) < 99
    assert told.endswith(f" and {99 - len(shown)} more: see ListModels.")
    assert len(told.encode()) < 1_200


@pytest.mark.parametrize("url", BAD_URLS)
def test_another_address_of_openai_is_checked_where_it_is_used(tmp_path: Path, url: str) -> None:
    environ = {"OPENAI_BASE_URL": url, "REMOTE_KEY": "k"}
    with pytest.raises(CatalogError, match=r"^OPENAI_BASE_URL: ") as caught:
        load(tmp_path, content(), environ)
    assert "\n" not in str(caught.value)
    ollama = {"ollama": content()["providers"]["ollama"]}
    only_ollama = content(
        providers=ollama, models={"llama": content()["models"]["llama"]}, default_model="llama"
    )
    assert load(tmp_path, only_ollama, environ).available_ids() == ["llama"]


@pytest.mark.parametrize("key", ["sk-12…", "sk-1\n2", "sk 12", "sk-1\0", "schlüssel"])
def test_a_key_that_cannot_be_sent_is_named_and_not_shown(tmp_path: Path, key: str) -> None:
    with pytest.raises(CatalogError, match=r"^REMOTE_KEY: ") as caught:
        load(tmp_path, content(), {"REMOTE_KEY": key})
    assert key not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "chat" in load(tmp_path, content(), {"REMOTE_KEY": " sk-12 \n"}).available_ids()


@pytest.mark.parametrize("where", ["headers", "query"])
def test_headers_and_parameters_take_variables(tmp_path: Path, where: str) -> None:
    provider = {"base_url": "http://x/v1", where: {"a": "Token ${GATEWAY_KEY}", "b": "${TEAM}"}}
    value = content(providers={"remote": provider, "ollama": content()["providers"]["ollama"]})
    assert load(tmp_path, value, {"TEAM": "t"}).available_ids() == ["llama"]
    catalog = load(tmp_path, value, {"TEAM": "t", "GATEWAY_KEY": "secret-key\n"})
    found = catalog.resolve("chat").provider
    assert getattr(found, where) == (("a", "Token secret-key"), ("b", "t"))
    assert "secret" not in repr(found)
    with pytest.raises(CatalogError, match=r"^GATEWAY_KEY: ") as caught:
        load(tmp_path, value, {"TEAM": "t", "GATEWAY_KEY": "secret\nkey"})
    assert "secret" not in str(caught.value)


def test_what_yaml_takes_for_something_else_is_sent_as_it_is_written(tmp_path: Path) -> None:
    written = """
providers:
  remote:
    base_url: http://x/v1
    query: {api-version: 2024-10-21, n: 1, beta: true}
    headers: {x-version: 2024-10-21, x-n: 1.5}
models: {chat: {provider: remote, context_window: 10, max_output_tokens: 1, input_price: 0,
  output_price: 0}}
default_model: chat
title_model: chat
"""
    provider = load(tmp_path, written).resolve("chat").provider
    assert provider.query == (("api-version", "2024-10-21"), ("n", "1"), ("beta", "true"))
    assert provider.headers == (("x-version", "2024-10-21"), ("x-n", "1.5"))


def test_without_discovery_the_file_names_its_default(tmp_path: Path) -> None:
    value = content()
    del value["default_model"]
    with pytest.raises(CatalogError, match="default_model: name at least one"):
        load(tmp_path, value)
    value["providers"]["ollama"]["discover"] = True
    del value["title_model"]
    catalog = load(tmp_path, value)
    assert catalog.default() == catalog.title() == catalog.resolve("llama")


def test_there_may_be_no_model_at_all(tmp_path: Path) -> None:
    only_remote = content(models={"chat": CHAT}, default_model="chat", title_model="chat")
    catalog = load(tmp_path, only_remote)
    assert catalog.default() is None
    assert catalog.title() is None
    with pytest.raises(ModelError, match="No model is available"):
        catalog.resolve("chat")


def test_the_cost_is_by_the_thousand_tokens(tmp_path: Path) -> None:
    model = load(tmp_path, content()).resolve("llama")
    assert model.cost_usd(2000, 100) == pytest.approx(2.25)
    assert model.cost_usd(2000, 100, 1500) == pytest.approx(2.25), "without a price of its own"


def test_input_that_was_kept_costs_its_own_price(tmp_path: Path) -> None:
    priced = content()
    priced["models"]["llama"] = {**priced["models"]["llama"], "cached_input_price": 0.1}
    model = load(tmp_path, priced).resolve("llama")
    assert model.cost_usd(2000, 100, 1500) == pytest.approx(2.25 - 1.5 * (model.input_price - 0.1))
    for bad in (-1, "1", float("inf")):
        priced["models"]["llama"]["cached_input_price"] = bad
        with pytest.raises(CatalogError, match=r"models\.llama\.cached_input_price"):
            load(tmp_path, priced)


def test_a_model_can_be_compared_and_hashed_but_not_changed(tmp_path: Path) -> None:
    model = load(tmp_path, content()).resolve("llama")
    assert {model: 1}[load(tmp_path, content()).resolve("llama")] == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.id = "other"  # type: ignore[misc]


def test_weights_of_a_package_that_is_not_there_make_no_model(tmp_path: Path) -> None:
    weights = {"package": "no_such_package", "file": "model.gguf", "sha256": "0" * 64}
    local = content(providers={"remote": {"weights": weights}, "ollama": {"weights": weights}})
    assert load(tmp_path, local).available_ids() == []
    assert Weights(**weights).path() is None
    assert Weights("colloquy_server", "no_such_file", "0" * 64).path() is None


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        (content(models={"chat": {**CHAT, "provider": "nobody"}}), "models.chat.provider"),
        (content(models={"chat": {"provider": "remote"}}), "models.chat.context_window"),
        (content(models={"chat": {**CHAT, "input_price": "1"}}), "models.chat.input_price"),
        (content(models={"chat": {**CHAT, "input_price": -1}}), "models.chat.input_price"),
        (content(models={"chat": {**CHAT, "context_window": 1.5}}), "models.chat.context_window"),
        (content(models={"chat": {**CHAT, "max_output_tokens": 1000}}), "models.chat"),
        (content(models={"chat": {**CHAT, "input_kinds": ["video"]}}), "models.chat.input_kinds"),
        (content(models={"chat": {**CHAT, "colour": "red"}}), "models.chat.colour"),
        (content(providers={"remote": {}}), "providers.remote"),
        *(
            (content(providers={"remote": {"base_url": "http://x/v1", **wrong}}), place)
            for wrong, place in WRONG_PROVIDERS
        ),
        (content(models={"chat": {**CHAT, "request": {"messages": []}}}), "models.chat.request"),
        (content(models={"chat": {**CHAT, "omit": ["messages"]}}), "models.chat.omit"),
        (content(models={"chat": {**CHAT, "headers": {}}}), "models.chat.headers: there is no"),
        *(
            (content(providers={"remote": {"base_url": url}}), "providers.remote.base_url")
            for url in BAD_URLS
        ),
        (content(models={"chat": {**CHAT, "context_window": 2**31}}), "models.chat.context_window"),
        ("default_model: 2024-13-45", "not YAML: month must be"),
        (content(default_model=["gpt-9"]), "default_model"),
        (content(default_model=[]), "default_model"),
        (content(title_model=["chat", "chat"]), "title_model"),
        (content(extra=1), "extra"),
        ("models: {a: 1}\nmodels: {b: 2}\n", 'line 2: "models" is there twice'),
        ("models: [", "line 2"),
        ("just text", "Input should be"),
        ("", "Input should be"),
        ("? [a, b]\n: 1\n", "line 1"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_the_place(
    tmp_path: Path, wrong: object, place: str
) -> None:
    with pytest.raises(CatalogError) as caught:
        load(tmp_path, wrong)
    message = str(caught.value)
    assert place in message
    assert str(tmp_path / "models.yml") in message
    assert "\n" not in message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="No such file"):
        Catalog.load(tmp_path / "none.yml", no_environ)
