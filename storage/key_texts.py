"""Texts from outside that become part of a key.

A btree of PostgreSQL refuses keys of more than 2,704 bytes, and with one call all others of its batch. Some servers
put a whole signature into a tool call's id.
"""

from __future__ import annotations

from hashlib import blake2b

_MOST_BYTES = 500
"""Five of them fit a key: no index has more texts than that from outside."""
_SURELY_FITS = _MOST_BYTES // 4
_HASH_BYTES = 16


def key_text(text: str) -> str:
    """*text*; of more than 500 bytes the beginning, with a hash of the whole, so that equal ones stay so."""
    if len(text) <= _SURELY_FITS:
        return text
    raw = text.encode(errors="replace")
    if len(raw) <= _MOST_BYTES:
        return text
    digest = blake2b(raw, digest_size=_HASH_BYTES).hexdigest()
    return f"{raw[: _MOST_BYTES - 1 - len(digest)].decode(errors='ignore')}~{digest}"
