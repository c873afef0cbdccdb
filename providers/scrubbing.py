"""Text from elsewhere, made fit for messages and reprs: no credentials, no queries of URLs, bounded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from urllib.parse import urlsplit

from hub.redaction import MARK, Redactor

LONGEST = 500
"""Characters of somebody else's text that a message of ours repeats."""

_QUERY = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s?\"'<>#]*)[?#][^\s\"'<>]*", re.IGNORECASE)


def scrubbed(text: str, secrets: Sequence[str | None] = ()) -> str:
    """*text* as one line of at most 500 characters, without *secrets*, what looks like one, and URLs' queries."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, MARK)
    text = _QUERY.sub(r"\1", _redactor()(" ".join(text.split()))[0])
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[: LONGEST + 1])
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def bare(url: str) -> str:
    """*url* without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(no URL)"
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" if host else "(no URL)"


@cache
def _redactor() -> Redactor:
    return Redactor()
