"""Secrets that can be told apart wherever they come to light, whole or in part, as they are or encoded."""

from __future__ import annotations

import base64
import re

MARK = "ZQ9XJ7KV"
"""In every canary, before and behind its number."""

VENDOR_KEYS = {
    "openai": "sk-{}",
    "openai project": "sk-proj-{}",
    "openai service account": "sk-svcacct-{}",
    "openai admin": "sk-admin-{}",
    "anthropic": "sk-ant-api03-{}-AA",
    "openrouter": "sk-or-v1-{}",
    "langfuse": "sk-lf-{}",
    "google": "AIza{}xxxxxxxxxxxxxx",
    "aws": "AKIA{}",
    "aws session": "ASIA{}",
    "github": "ghp_{}",
    "github server": "ghs_{}",
    "github fine-grained": "github_pat_{}_more",
    "hugging face": "hf_{}",
    "groq": "gsk_{}",
    "xai": "xai-{}",
    "replicate": "r8_{}",
    "perplexity": "pplx-{}",
    "slack": "xoxb-{}",
    "slack app": "xapp-1-{}",
    "stripe": "sk_live_{}",
    "stripe restricted": "rk_test_{}",
    "gitlab": "glpat-{}",
    "npm": "npm_{}",
    "sendgrid": "SG.abcdefghijkl.{}",
    "langsmith": "lsv2_pt_{}",
    "nvidia": "nvapi-{}",
    "tavily": "tvly-{}",
    "google oauth": "GOCSPX-{}",
    "google access": "ya29.{}",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.{}",
    "bearer": "Bearer {}",
    "basic": "Basic {}==",
    "url": "https://user:{}@example.com/path",
    "pem": "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
}
"""A key as each vendor makes them."""

SECRET_NAMES = (
    *("api_key", "apiKey", "API-KEY", "api key", "x-api-key", "openai.api_key", "azure_subscription_key"),
    *("secret", "client_secret", "clientSecret", "aws_secret_access_key", "private_key", "signingKey"),
    *("password", "db_password", "passwd", "pwd", "passphrase", "credential"),
    *("access_token", "refreshToken", "session_token", "bot_token", "token"),
    *("Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie"),
)


class Canaries:
    """Plants secrets and remembers where."""

    def __init__(self) -> None:
        self.places: list[str] = []
        self.neighbours: list[str] = []
        """What must be found where texts of `text` are kept."""
        self.beside: list[str] = []
        """The place of each neighbour."""
        self._vendors = [name for name, form in VENDOR_KEYS.items() if " " not in form]

    def core(self, place: str) -> str:
        """A new one for *place*, with no vendor's form: a secret only by its name."""
        self.places.append(place)
        return f"{MARK}{len(self.places) - 1:03d}{MARK}A4"

    def again(self, place: str) -> str:
        """What `core` gave for *place*."""
        return f"{MARK}{self.places.index(place):03d}{MARK}A4"

    def key(self, place: str, vendor: str | None = None) -> str:
        """A new one in the form of *vendor*'s keys; each vendor's in turn when none is named."""
        if vendor is None:
            vendor = self._vendors[len(self.places) % len(self._vendors)]
        return VENDOR_KEYS[vendor].format(self.core(f"{place} ({vendor})"))

    def text(self, place: str, vendor: str | None = None) -> str:
        """Prose with a key in it."""
        key, neighbour = self.key(place, vendor), f"neighbour{len(self.places) - 1:03d}"
        self.neighbours.append(neighbour)
        self.beside.append(self.places[-1])
        return f"Take {key} and {neighbour}."

    def text_unkept(self, place: str) -> str:
        """`text` for where nothing of it is kept."""
        return f"Take {self.key(place)}."

    def found_in(self, text: bytes) -> list[str]:
        """The places whose secrets are in *text*."""
        found = [self._place(number) for number in re.findall(_PLAIN, text)]
        found += ["somewhere, in base64 or hex" for needle in _ENCODED if needle in text]
        found += [f"{self._place(number)}, in pieces" for number in re.findall(_PLAIN, stitched(text))]
        return sorted(set(found))

    def _place(self, number: bytes) -> str:
        return self.places[int(number)] if number else "somewhere, cut"


_PLAIN = re.compile(MARK.encode() + rb"(\d{3})?")
_ENCODED = [
    MARK.encode().hex().encode(),
    MARK.encode().hex().upper().encode(),
    *(
        base64.b64encode(b"x" * shift + MARK.encode()).rstrip(b"=")[-(-shift * 4 // 3) : -1].lstrip(b"=")
        for shift in range(3)
    ),
]
_PIECE = re.compile(
    rb'\\*"(?:content|delta|text|arguments|partial_json|refusal|reasoning_content|reasoning)\\*":\s*\\*"([^"\\]*)'
)


def stitched(text: bytes) -> bytes:
    """The pieces of streams within *text*, put together as any reader would."""
    return b"".join(_PIECE.findall(text))
