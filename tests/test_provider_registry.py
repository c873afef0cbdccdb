"""Names become providers: what is registered, built in or installed, what the environment adds, and what goes wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

import pytest

import providers
from providers.config import ProviderConfig
from providers.contract import Provider
from providers.errors import ConfigurationError, LLMError, UnknownProviderError
from providers.mock import MockProvider
from providers.openai import OpenAIProvider
from providers.registry import BuiltIn, Registry, split

KEY = "sk-" + "c3" * 20


class Made:
    """A provider that remembers what it was made of."""

    def __init__(self, config: ProviderConfig) -> None:
        self.config = config


def registry(environ: Mapping[str, str] | None = None, **options: Any) -> Registry:
    made = Registry(environ=environ or {}, **{"distributions": list, **options})
    made.register("acme", Made)
    return made


def config_of(name: str | None, environ: Mapping[str, str], config: ProviderConfig | None = None) -> ProviderConfig:
    made: Any = registry(environ).get(name, config)
    assert isinstance(made, Made)
    return made.config


# Names and the environment.


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("openai", ("openai", None)),
        ("openai:gpt-5-mini", ("openai", "gpt-5-mini")),
        ("ollama:llama3:8b", ("ollama", "llama3:8b")),
        (" OpenAI:GPT ", ("openai", "GPT")),
        ("openai:", ("openai", None)),
    ],
)
def test_a_name_is_a_scheme_and_perhaps_a_model(name: str, expected: tuple[str, str | None]) -> None:
    assert split(name) == expected


def test_the_model_is_the_configurations_then_the_names_then_the_environments() -> None:
    environ = {"LLM_MODEL": "of-environment"}
    assert config_of("acme:of-name", environ, ProviderConfig(model="of-argument")).model == "of-argument"
    assert config_of("acme:of-name", environ).model == "of-name"
    assert config_of("acme", environ).model == "of-environment"
    assert config_of("acme", {}).model is None


def test_key_and_base_url_are_the_configurations_then_those_of_the_name_in_capitals() -> None:
    environ = {"ACME_API_KEY": "k", "ACME_BASE_URL": "http://h/v1", "OPENAI_API_KEY": "another's"}
    found = config_of("acme", environ)
    assert (found.api_key, found.base_url) == ("k", "http://h/v1")
    given = config_of("acme", environ, ProviderConfig(api_key="", base_url="http://mine"))
    assert (given.api_key, given.base_url) == ("", "http://mine")


def test_characters_that_no_variable_has_are_underscores() -> None:
    made = registry({"MY_OWN_LLM_API_KEY": "k"})
    made.register("my-own.llm", Made)
    provider: Any = made.get("My-Own.LLM")
    assert provider.config.api_key == "k"


def test_the_provider_may_come_from_the_environment_with_its_model() -> None:
    assert config_of(None, {"LLM_PROVIDER": "acme"}).model is None
    assert config_of(None, {"LLM_PROVIDER": "acme:m-1", "LLM_MODEL": "m-2"}).model == "m-1"
    assert config_of(None, {"LLM_PROVIDER": "acme", "LLM_MODEL": "m-2"}).model == "m-2"


def test_a_model_meant_for_one_provider_is_not_asked_of_another() -> None:
    assert config_of("acme", {"LLM_PROVIDER": "openai", "LLM_MODEL": "gpt-5"}).model is None
    assert config_of("acme", {"LLM_PROVIDER": "ACME:x", "LLM_MODEL": "m-2"}).model == "m-2"


def test_the_timeout_is_the_configurations_then_the_environments() -> None:
    assert config_of("acme", {"LLM_TIMEOUT": "2.5"}).timeout == 2.5
    assert config_of("acme", {"LLM_TIMEOUT": "2.5"}, ProviderConfig(timeout=9)).timeout == 9
    assert config_of("acme", {}).timeout is None


@pytest.mark.parametrize("text", ["soon", "0", "-1", "inf", "nan"])
def test_a_timeout_that_cannot_be_used_is_named_with_its_variable(text: str) -> None:
    with pytest.raises(ConfigurationError, match="LLM_TIMEOUT"):
        config_of("acme", {"LLM_TIMEOUT": text})


def test_empty_variables_are_not_set() -> None:
    environ = {"LLM_MODEL": "", "LLM_TIMEOUT": " ", "ACME_API_KEY": "", "ACME_BASE_URL": ""}
    assert config_of("acme", environ) == ProviderConfig()


def test_what_else_is_configured_stays() -> None:
    given = ProviderConfig(temperature=0, max_tokens=0, extra={"a": 1})
    assert config_of("acme", {"ACME_API_KEY": "k"}, given) == ProviderConfig(
        api_key="k", temperature=0, max_tokens=0, extra={"a": 1}
    )


def test_without_any_name_the_error_says_how_to_give_one() -> None:
    with pytest.raises(ConfigurationError, match="LLM_PROVIDER"):
        registry().get()


# Who has a name.


def test_the_built_in_ones_are_there_and_are_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "LLM_PROVIDER", "LLM_MODEL", "LLM_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    assert {"mock", "openai"} <= set(providers.list_providers())
    mock = providers.get_provider("mock:m-7")
    assert isinstance(mock, MockProvider)
    assert mock.config.model == "m-7"
    made = providers.get_provider("openai", ProviderConfig(api_key="k"))
    assert isinstance(made, OpenAIProvider)
    assert isinstance(mock, Provider)
    assert isinstance(made, Provider)


def test_a_registered_name_comes_first_and_can_be_taken_back() -> None:
    undo_first = providers.register_provider("Mock", Made)
    undo_second = providers.register_provider("mock", lambda config: Made(config))
    undo_second()
    assert isinstance(providers.get_provider("mock"), Made)
    undo_first()
    undo_first()
    assert isinstance(providers.get_provider("mock"), MockProvider)


@pytest.mark.parametrize("scheme", ["", "a:b", "with blank", "-x", "ü"])
def test_what_is_no_name_is_not_registered(scheme: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot name a provider"):
        registry().register(scheme, Made)


def test_an_unknown_name_is_told_with_those_near_to_it_and_what_to_do() -> None:
    with pytest.raises(UnknownProviderError) as caught:
        registry().get("opnai:gpt-5")
    text = str(caught.value)
    assert "did you mean 'openai'?" in text
    assert "acme, mock, openai" in text
    assert "OPNAI_BASE_URL" in text
    assert isinstance(caught.value, LookupError)
    assert isinstance(caught.value, LLMError)
    assert caught.value.provider == "opnai"


def test_a_key_given_for_a_name_is_not_repeated() -> None:
    with pytest.raises(UnknownProviderError) as caught:
        registry().get(KEY)
    assert "c3c3" not in str(caught.value)


def test_a_name_with_a_base_url_is_a_server_that_speaks_openais_protocol() -> None:
    made: Any = registry({"MY_LLM_BASE_URL": "http://127.0.0.1:9/v1", "MY_LLM_API_KEY": "k"}).get("my-llm:m-1")
    assert isinstance(made, OpenAIProvider)
    assert made.name == "my-llm"
    assert (made.config.api_key, made.config.base_url, made.config.model) == ("k", "http://127.0.0.1:9/v1", "m-1")


def test_an_address_in_the_configuration_is_as_good_as_the_variable() -> None:
    made: Any = registry().get("azure:small", ProviderConfig(base_url="http://127.0.0.1:9/v1"))
    assert isinstance(made, OpenAIProvider)
    assert (made.name, made.config.model, made.config.base_url) == ("azure", "small", "http://127.0.0.1:9/v1")


def test_a_factory_that_makes_nothing_is_an_error() -> None:
    made = registry()
    made.register("nothing", lambda config: None)
    with pytest.raises(ConfigurationError, match="returned None"):
        made.get("nothing")


def test_what_a_factory_raises_is_what_the_caller_gets() -> None:
    def refuse(config: ProviderConfig) -> Any:
        raise KeyError("mine")

    made = registry()
    made.register("strict", refuse)
    with pytest.raises(KeyError, match="mine"):
        made.get("strict")


def test_a_package_that_is_missing_is_told_with_the_extra_that_brings_it(tmp_path: Path) -> None:
    (tmp_path / "needs_vendor.py").write_text("import vendor_sdk_nobody_has\n")
    sys.path.insert(0, str(tmp_path))
    try:
        built_in = {"vendor": BuiltIn("needs_vendor", "Vendor", "vendor"), "own": BuiltIn("needs_vendor", "Vendor")}
        for name, command in (("vendor", "pip install 'llm-hub[vendor]'"), ("own", "pip install 'llm-hub'")):
            with pytest.raises(ConfigurationError) as caught:
                Registry(built_in=built_in, environ={}, distributions=list).get(name)
            assert command in str(caught.value)
            assert "vendor_sdk_nobody_has" in str(caught.value)
            assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    finally:
        sys.path.remove(str(tmp_path))


# Installed packages.

GOOD = """
class Plugin:
    def __init__(self, config):
        self.config = config
"""


def install(folder: Path, name: str, source: str, points: str, version: str = "1.2") -> None:
    """A distribution as pip leaves it, with one module."""
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[hub.providers]\n{points}\n[other.group]\nx = y:z\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("plugin_"):
            del sys.modules[name]


def test_an_installed_package_brings_its_provider(site: Path) -> None:
    install(site, "plugin-good", GOOD, "Plug.In = plugin_good:Plugin")
    assert "plug.in" in providers.list_providers()
    assert "plugin_good" not in sys.modules
    made: Any = Registry(environ={"PLUG_IN_API_KEY": "k"}).get("plug.in:m-1")
    assert type(made).__name__ == "Plugin"
    assert (made.config.api_key, made.config.model) == ("k", "m-1")


def test_a_broken_package_harms_only_who_asks_for_it(site: Path) -> None:
    install(site, "plugin-good", GOOD, "good = plugin_good:Plugin")
    install(site, "plugin-bad", f"raise RuntimeError('no luck with {KEY}')", "bad = plugin_bad:Plugin")
    install(site, "plugin-lost", GOOD, "lost = plugin_lost:NotThere")
    made = Registry(environ={})
    assert {"bad", "good", "lost"} <= set(made.names())
    assert type(made.get("good")).__name__ == "Plugin"
    assert isinstance(made.get("mock"), MockProvider)
    with pytest.raises(ConfigurationError) as caught:
        made.get("bad")
    assert "plugin-bad 1.2" in str(caught.value)
    assert "RuntimeError: no luck with [REDACTED]" in str(caught.value)
    with pytest.raises(ConfigurationError, match=r"plugin-lost 1\.2.*AttributeError"):
        made.get("lost")


def test_metadata_that_cannot_be_read_harms_nobody(site: Path) -> None:
    install(site, "plugin-good", GOOD, "good = plugin_good:Plugin")
    install(site, "plugin-odd", GOOD, "this is = no [entry point")
    (site / "plugin_nameless-1.dist-info").mkdir()
    (site / "plugin_bytes-1.dist-info").mkdir()
    (site / "plugin_bytes-1.dist-info" / "METADATA").write_bytes(b"Name: bytes\xff\xfe\n")
    (site / "plugin_bytes-1.dist-info" / "entry_points.txt").write_bytes(b"\xff\xfe[")
    made = Registry(environ={})
    assert "good" in made.names()
    assert type(made.get("good")).__name__ == "Plugin"


def test_a_package_that_lacks_its_own_extra_says_which(site: Path) -> None:
    install(site, "plugin-extra", "import vendor_sdk_nobody_has", "extra = plugin_extra:Plugin [http]")
    with pytest.raises(ConfigurationError, match=r"pip install 'plugin-extra\[http\]'"):
        Registry(environ={}).get("extra")


def test_two_packages_with_one_name_are_told_apart_by_nobody_but_the_user(site: Path) -> None:
    install(site, "plugin-one", GOOD, "both = plugin_one:Plugin")
    install(site, "plugin-two", GOOD, "both = plugin_two:Plugin")
    made = Registry(environ={})
    assert made.names().count("both") == 1
    with pytest.raises(ConfigurationError) as caught:
        made.get("both")
    assert "plugin-one 1.2" in str(caught.value)
    assert "plugin-two 1.2" in str(caught.value)
    made.register("both", Made)
    assert isinstance(made.get("both"), Made)


def test_an_older_copy_later_on_the_path_does_not_count(site: Path) -> None:
    older = site / "older"
    older.mkdir()
    install(site, "plugin-twice", GOOD, "twice = plugin_twice:Plugin")
    install(older, "Plugin_Twice", "raise RuntimeError", "twice = plugin_twice:Plugin", "1.0")
    found = Registry(environ={}, distributions=lambda: distributions(path=[str(site), str(older)]))
    assert type(found.get("twice")).__name__ == "Plugin"


def test_a_package_cannot_take_the_name_of_one_that_is_built_in(site: Path) -> None:
    install(site, "plugin-thief", GOOD, "mock = plugin_thief:Plugin\nopenai = plugin_thief:Plugin")
    assert isinstance(Registry(environ={}).get("mock"), MockProvider)
    assert "plugin_thief" not in sys.modules


def test_no_package_is_looked_for_when_the_name_is_known() -> None:
    def looked() -> list[Distribution]:
        raise AssertionError("looked")

    assert isinstance(Registry(environ={}, distributions=looked).get("mock"), MockProvider)
