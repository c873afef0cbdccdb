"""From a name such as `openai:gpt-5-mini` to a provider: registered, built in, from an installed package, or any server
that speaks OpenAI's protocol."""

from __future__ import annotations

import difflib
import importlib
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import TYPE_CHECKING, Any

from providers.config import ProviderConfig, variable_prefix
from providers.errors import ConfigurationError, UnknownProviderError
from providers.scrubbing import scrubbed

if TYPE_CHECKING:
    from providers.contract import Provider

GROUP = "hub.providers"
"""Entry points of this group name factories: `acme = acme_llm:AcmeProvider`."""

Factory = Callable[[ProviderConfig], Any]
"""Of a provider; one of another contract than ours will do for those who know it."""


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A provider of ours, loaded when it is asked for."""

    module: str
    name: str
    extra: str | None = None
    """Of llm-hub: what brings the packages it needs; None for those llm-hub always brings."""


BUILT_IN: Mapping[str, BuiltIn] = {
    "mock": BuiltIn("providers.mock", "MockProvider"),
    "openai": BuiltIn("providers.openai", "OpenAIProvider"),
}
COMPATIBLE = "openai"
"""The built-in provider that serves any name with a base URL."""

_SCHEME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Registry:
    """Finds and makes providers. The functions of this module act on one for the whole program."""

    def __init__(
        self,
        *,
        built_in: Mapping[str, BuiltIn] = BUILT_IN,
        environ: Mapping[str, str] = os.environ,
        distributions: Callable[[], Iterable[Distribution]] = distributions,
    ) -> None:
        self._built_in, self._environ, self._distributions = built_in, environ, distributions
        self._registered: dict[str, Factory] = {}

    def register(self, scheme: str, factory: Factory) -> Callable[[], None]:
        if not _SCHEME.fullmatch(scheme):
            raise ConfigurationError(f"{scheme!r} cannot name a provider; use letters, digits, '-', '_' and '.'")
        scheme = scheme.lower()
        before = self._registered.get(scheme)
        self._registered[scheme] = factory

        def undo() -> None:
            if self._registered.get(scheme) is factory:
                if before is None:
                    del self._registered[scheme]
                else:
                    self._registered[scheme] = before

        return undo

    def names(self) -> list[str]:
        return sorted({*self._registered, *self._built_in, *(point.name.lower() for point, _ in self._entry_points())})

    def get(self, name: str | None = None, config: ProviderConfig | None = None) -> Provider:
        chosen = self._variable("LLM_PROVIDER")
        if name is None and chosen is None:
            raise ConfigurationError(
                "no provider was named; pass a name, as in get_provider('openai:gpt-5-mini'), or set LLM_PROVIDER"
            )
        scheme, model = split(name if name is not None else chosen or "")
        config = config or ProviderConfig()
        make = self._factory(scheme, config)
        if model is None and (chosen is None or split(chosen)[0] == scheme):
            model = self._variable("LLM_MODEL")
        provider: Provider | None = make(self._completed(scheme, model, config))
        if provider is None:
            raise ConfigurationError(
                f"provider {scheme!r} could not be made: its factory returned None; see what it needs to be set up",
                provider=scheme,
            )
        return provider

    def _completed(self, scheme: str, model: str | None, config: ProviderConfig) -> ProviderConfig:
        """*config* with what it leaves open from the name and the environment."""
        prefix = variable_prefix(scheme)
        found = {
            "model": model,
            "api_key": self._variable(f"{prefix}_API_KEY"),
            "base_url": self._variable(f"{prefix}_BASE_URL"),
        }
        if config.timeout is None and (seconds := self._variable("LLM_TIMEOUT")) is not None:
            found["timeout"] = _seconds(seconds)  # type: ignore[assignment]
        missing: dict[str, Any] = {key: value for key, value in found.items() if getattr(config, key) is None}
        return replace(config, **missing)

    def _variable(self, name: str) -> str | None:
        return self._environ.get(name, "").strip() or None

    def _factory(self, scheme: str, config: ProviderConfig) -> Factory:
        if (registered := self._registered.get(scheme)) is not None:
            return registered
        if (own := self._built_in.get(scheme)) is not None:
            return _load_own(scheme, own)
        found = [(point, of) for point, of in self._entry_points() if point.name.lower() == scheme]
        if len(found) > 1:
            owners = " and ".join(_title(of) for _, of in found)
            raise ConfigurationError(
                f"provider {scheme!r} is offered by {owners}; uninstall all but one, or choose by register_provider",
                provider=scheme,
            )
        if found:
            return _load_plugin(scheme, *found[0])
        address = config.base_url or self._variable(f"{variable_prefix(scheme)}_BASE_URL")
        if address is not None and COMPATIBLE in self._built_in:
            compatible: Any = _load_own(COMPATIBLE, self._built_in[COMPATIBLE])
            return lambda config: compatible(config, name=scheme)
        raise self._unknown(scheme)

    def _unknown(self, scheme: str) -> UnknownProviderError:
        known = self.names()
        near = difflib.get_close_matches(scheme, known, n=2, cutoff=0.6)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ";"
        return UnknownProviderError(
            f"no provider is called {scrubbed(scheme)!r}{hint} known are {', '.join(known)}. A server that speaks "
            f"OpenAI's protocol needs {variable_prefix(scrubbed(scheme))}_BASE_URL, others a package that offers the "
            "name, or register_provider",
            provider=scheme,
        )

    def _entry_points(self) -> Iterator[tuple[EntryPoint, Distribution]]:
        """Of all installed packages; one whose metadata cannot be read is left out."""
        seen = set()
        for distribution in self._distributions():
            try:
                name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
                points = [point for point in distribution.entry_points if point.group == GROUP]
            except Exception:  # a broken package is nobody's trouble who does not ask for it
                continue
            if name not in seen:  # a second one is an older copy, later on the path
                seen.add(name)
                yield from ((point, distribution) for point in points)


def split(name: str) -> tuple[str, str | None]:
    """`openai:gpt-5-mini` as scheme and model. A model may hold colons: `ollama:llama3:8b`."""
    scheme, _, model = name.strip().partition(":")
    return scheme.lower(), model or None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ConfigurationError(f"LLM_TIMEOUT is {text!r}; set it to seconds, such as 60")
    return seconds


def _load_own(scheme: str, own: BuiltIn) -> Factory:
    try:
        factory: Factory = getattr(importlib.import_module(own.module), own.name)
    except ModuleNotFoundError as error:
        if own.module == error.name:
            raise
        package = f"llm-hub[{own.extra}]" if own.extra else "llm-hub"
        raise _not_installed(scheme, error.name, package) from error
    return factory


def _load_plugin(scheme: str, point: EntryPoint, distribution: Distribution) -> Factory:
    try:
        factory: Factory = point.load()
    except ModuleNotFoundError as error:
        if point.extras:
            package = f"{distribution.metadata['Name']}[{','.join(point.extras)}]"
            raise _not_installed(scheme, error.name, package) from error
        raise _broken(scheme, distribution, error) from error
    except Exception as error:
        raise _broken(scheme, distribution, error) from error
    return factory


def _not_installed(scheme: str, module: str | None, package: str) -> ConfigurationError:
    return ConfigurationError(
        f"provider {scheme!r} needs {module}, which is not installed; run: pip install '{package}'", provider=scheme
    )


def _broken(scheme: str, distribution: Distribution, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"provider {scheme!r} of {_title(distribution)} cannot be loaded: {type(error).__name__}: "
        f"{scrubbed(str(error))}; repair or upgrade that package",
        provider=scheme,
    )


def _title(distribution: Distribution) -> str:
    return f"{distribution.metadata['Name']} {distribution.version}"


_registry = Registry()


def get_provider(name: str | None = None, config: ProviderConfig | None = None) -> Provider:
    """Make the provider of this name.

    Registered names come first, then built-in ones, then those of installed packages. A name none of them has, but for
    which {NAME}_BASE_URL or *config* gives an address, is a server that speaks OpenAI's protocol.

    What *config* leaves open comes from *name*, then from the environment: {NAME}_API_KEY and {NAME}_BASE_URL ({NAME}
    in capitals, other characters than letters and digits as _), LLM_TIMEOUT, and LLM_MODEL unless LLM_PROVIDER names
    another provider than this. Empty variables are not set.

    Args:
        name: As in `openai` or `openai:gpt-5-mini`; None for LLM_PROVIDER.
    Raises:
        UnknownProviderError: There is none of this name.
        ConfigurationError: No name was given, the provider needs a package that is missing, or it is broken.
    """
    return _registry.get(name, config)


def register_provider(scheme: str, factory: Factory) -> Callable[[], None]:
    """Have `get_provider(scheme)` call *factory* with the completed configuration; whoever had the name before, built
    in or not, gives way.

    Returns: A function that takes it back.
    Raises: ConfigurationError: *scheme* is no name.
    """
    return _registry.register(scheme, factory)


def list_providers() -> list[str]:
    """The names `get_provider` knows, sorted. Loads none of them: one may be broken, or lack a package."""
    return _registry.names()
