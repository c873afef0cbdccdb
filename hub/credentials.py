"""What a request proved itself with, taken out of what its answer says: some servers quote the key they refuse.

Redaction knows keys by their form; these may have none. A request's headers are not looked at before its answer is an
error.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Collection, Iterator
from typing import Any
from urllib.parse import quote

from hub.redaction import MARK, SHORTEST

_WITH_SCHEME = ("authorization", "proxy-authorization")
_KEYS = ("x-api-key", "api-key", "x-goog-api-key")


def credentials_in(headers: Any) -> Iterator[str]:
    """The secrets in *headers* of httpx's, of any length."""
    for name in _WITH_SCHEME:
        for value in headers.get_list(name):
            scheme, _, rest = value.strip().partition(" ")
            yield rest.strip() or scheme
            if scheme.lower() == "basic":
                yield _password(rest)
    for name in _KEYS:
        yield from (value.strip() for value in headers.get_list(name))
    for value in headers.get_list("cookie"):
        yield from (cookie.partition("=")[2].strip().strip('"') for cookie in value.split(";"))


def _password(encoded: str) -> str:
    try:
        return base64.b64decode(encoded).decode().partition(":")[2]
    except ValueError:
        return ""


class Mask:
    """Takes the credentials of all *requests*, headers of httpx's, out of JSON data and counts how often."""

    __slots__ = ("_spellings", "found")

    def __init__(self, requests: Collection[Any] = ()) -> None:
        secrets = {one for headers in requests for one in credentials_in(headers) if len(one) >= SHORTEST}
        self._spellings = sorted({way for one in secrets for way in _spellings(one)}, key=len, reverse=True)
        self.found = 0

    def __call__(self, value: Any) -> Any:
        """*value* without them; itself where there is nothing to do. What is under a key is looked at, keys are not."""
        if not self._spellings:
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            return {key: self(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self(one) for one in value]
        return value

    def _text(self, text: str) -> str:
        for spelling in self._spellings:
            if (count := text.count(spelling)) > 0:
                self.found += count
                text = text.replace(spelling, MARK)
        return text


def _spellings(secret: str) -> Iterator[str]:
    """As it is, and as it stands in JSON, in Python's repr of a document, in a URL and in HTML."""
    written = json.dumps(secret, ensure_ascii=False)[1:-1]
    yield from (secret, written, written.replace("/", r"\/"), json.dumps(secret)[1:-1])
    yield from (repr(secret)[1:-1], quote(secret, safe=""), html.escape(secret))
