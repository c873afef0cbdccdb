"""Where a call is sent again: a provider by name, or what the program gives as `using`.

Names are looked up in the registry of `providers` and nowhere else: nothing that a store says is imported, opened or
connected to.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from hub.errors import HubError, ReplayImpossible
from hub.extractors.wire import address_of
from hub.own_packages import check
from hub.replays.original import Original, provider_name

_NOT_OPENAIS = ("system", "anthropic_version", "stop_sequences", "contents", "inferenceConfig")


class Resend(Protocol):
    """Posts a body as it is and gives the whole answer's."""

    def __call__(self, body: bytes, *, path: str, stream: bool) -> Awaitable[bytes]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Something that can be asked."""

    thing: Any
    name: str | None
    """The provider's, as far as it tells."""
    model: str | None = None
    """Of a string such as openai:gpt-5-mini."""
    host: str | None = None
    """Of its base URL, as far as it tells."""
    resend: Resend | None = None
    vouched: bool = False
    """`resend` is known to send what it is given: it is ours."""
    owned: bool = False
    """Made here, and closed here."""

    async def close(self) -> None:
        """Let go of its connections, if it was made here. Never raises."""
        close = getattr(self.thing, "close", None) if self.owned else None
        if callable(close):
            try:
                if inspect.isawaitable(closing := close()):
                    await closing
            except Exception:  # the answer is here already
                pass


def resolve(using: Any, original: Original) -> Target:
    """Raises: ReplayImpossible: There is no such provider, or it is not set up."""
    if using is None:
        return _registered(_of_the_store(original), original)
    if isinstance(using, str):
        return _registered(using, original)
    if inspect.isclass(using) or _takes_nothing(using):
        made = _made(using, original)
        return _registered(made, original) if isinstance(made, str) else described(made, owned=True)
    return described(using)


def _takes_nothing(using: Any) -> bool:
    """Whether it is a function that cannot be asked anything: one that makes what can."""
    try:
        return inspect.isroutine(using) and not inspect.signature(using).parameters
    except (ValueError, TypeError):
        return False


def _made(factory: Callable[[], Any], original: Original) -> Any:
    try:
        return factory()
    except Exception as error:
        name = getattr(factory, "__qualname__", type(factory).__qualname__)
        raise ReplayImpossible(
            original.call_id,
            f"{name}() failed with {type(error).__name__}",
            "give an instance, or a function without parameters that makes one",
        ) from error


def _of_the_store(original: Original) -> str:
    """The stored provider's name, which anybody may have written there: it chooses among what is installed, but never
    a variable of the environment that might not even be meant for models."""
    check("providers")
    from providers import list_providers

    name = provider_name(original)
    if name.lower() not in list_providers():
        raise ReplayImpossible(
            original.call_id,
            f"its provider {name!r} is none that is registered here",
            f"say whom to ask: --using {name} or using={name!r} where the environment says where that is, or another",
        )
    return name


def _registered(wanted: str, original: Original) -> Target:
    check("providers")
    from providers import get_provider

    scheme, _, model = wanted.partition(":")
    try:
        thing = get_provider(scheme)
    except HubError as error:
        raise ReplayImpossible(
            original.call_id, str(error), "set it up, or choose another with --using or using="
        ) from error
    return described(thing, owned=True, model=model or None)


def described(thing: Any, *, owned: bool = False, model: str | None = None) -> Target:
    """*thing* as something that can be asked."""
    name = _told(thing, "name") if not inspect.isroutine(thing) else None
    resend, vouched = getattr(thing, "resend", None), type(thing).__module__.startswith("providers.")
    if is_sdk_client(thing):
        resend, vouched, name = _through_sdk(thing), False, name or "openai"
    return Target(
        thing=thing,
        name=name,
        model=model,
        host=_host(thing),
        resend=resend if callable(resend) else None,
        vouched=vouched,
        owned=owned,
    )


def _told(thing: Any, attribute: str) -> str | None:
    try:
        value = getattr(thing, attribute, None)
        value = getattr(value, "value", value)  # an Enum's
    except Exception:  # a property of the program's
        return None
    return value if isinstance(value, str) and value else None


def _host(thing: Any) -> str | None:
    """Host of its base URL, without user and password; None when it does not tell."""
    for holder, name in ((thing, "base_url"), (thing, "address"), (getattr(thing, "config", None), "base_url")):
        try:
            url = getattr(holder, name, None)
            if url is None:
                continue
            if not isinstance(url, str):
                return address_of(url)
            parts = urlsplit(url)
            return parts.netloc.rpartition("@")[2] or None
        except Exception:  # an object of the program's
            continue
    return None


def path_for(body: Mapping[str, Any], operation: str) -> str | None:
    """Where behind a base URL a body of this shape is sent; None when it is not one of OpenAI's."""
    if any(key in body for key in _NOT_OPENAIS):
        return None
    if operation == "embeddings":
        return "/embeddings" if "input" in body else None
    if "messages" in body:
        return "/chat/completions"
    if operation == "text_completion":
        return "/completions" if "prompt" in body else None
    return "/responses" if "input" in body or "prompt" in body else None


# Clients of the openai SDK.


def is_sdk_client(thing: Any) -> bool:
    """Whether *thing* is a client of the openai SDK that can post bytes as they are."""
    names = {cls.__name__ for cls in type(thing).__mro__ if cls.__module__ == "openai._base_client"}
    azure = any(cls.__name__ == "BaseAzureClient" for cls in type(thing).__mro__)  # has the model in its path
    post = getattr(type(thing), "post", None)
    return bool(names) and not azure and post is not None and "content" in inspect.signature(post).parameters


def _through_sdk(client: Any) -> Resend:
    options = {"headers": {"Content-Type": "application/json"}, "follow_redirects": False}

    async def resend(body: bytes, *, path: str, stream: bool) -> bytes:
        post: Callable[..., Any] = client.post
        if inspect.iscoroutinefunction(inspect.unwrap(type(client).request)):
            return await post(path, cast_to=bytes, content=body, options=options)  # type: ignore[no-any-return]
        return await asyncio.to_thread(post, path, cast_to=bytes, content=body, options=options)

    return resend
