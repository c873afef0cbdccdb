"""What is taken for a secret, and how it is taken out of text.

Three kinds: keys with a vendor's published form, values under names such as `api_key`, and passwords in URLs. Text
is first asked by two linear-time matchers (the regex engine inside pydantic, 0.5 ns a byte) whether it can hold any of
them; only then do the exact patterns of `re`, fifty times slower, run, and only near what was found.

The matchers must find wherever the exact patterns find; the reverse is not needed. A test holds them to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated

from pydantic import StringConstraints, TypeAdapter

from hub.errors import ConfigError
from hub.harmless import is_harmless

MARK = "[REDACTED]"
FAILED_MARK = "[REDACTED: redactor failed]"

SHORTEST = 8
"""No built-in rule matches a text of fewer characters; `s://u:p@h` has nine."""

_WINDOW = 4096
_OVERLAP = 1024
_NEAR = 256
_ROUNDS = 8

# JSON inside JSON writes a newline as backslash n: the n is no part of the word that follows. The same for %3D in URLs.
_LEFT = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf])|(?<=\\u[0-9A-Fa-f]{4})|(?<=%[0-9A-Fa-f]{2}))"
_BLANK = r"[ \t\r\n]*"
_FRESH = r"(?!\[REDACTED)"

# Prefixes and lengths as the vendors document them or their secret scanners publish them; a minimum, as tails grow.
_VENDOR_KEYS = (
    r"sk-(?:ant|proj|svcacct|admin|None|or|live|test|lf)-[A-Za-z0-9_-]{10,}",
    r"sk-[A-Za-z0-9]{20,}[A-Za-z0-9_-]*",
    r"AIza[0-9A-Za-z_-]{30,}",
    r"(?:AKIA|ASIA)[A-Z0-9]{16,}",
    r"gh[opusr]_[A-Za-z0-9]{20,}",
    r"github_pat_[A-Za-z0-9_]{20,}",
    r"hf_[A-Za-z0-9]{20,}",
    r"gsk_[A-Za-z0-9]{20,}",
    r"xai-[A-Za-z0-9]{20,}",
    r"r8_[A-Za-z0-9]{20,}",
    r"pplx-[A-Za-z0-9]{20,}",
    r"xox[a-z]-[A-Za-z0-9-]{10,}",
    r"xapp-[A-Za-z0-9-]{10,}",
    r"[rs]k_(?:live|test)_[A-Za-z0-9]{10,}",
    r"glpat-[A-Za-z0-9_-]{16,}(?:\.[A-Za-z0-9_-]+)*",
    r"npm_[A-Za-z0-9]{20,}",
    r"SG\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
    r"lsv2_[a-z]{2}_[A-Za-z0-9_]{20,}",
    r"nvapi-[A-Za-z0-9_-]{20,}",
    r"tvly-[A-Za-z0-9_-]{16,}",
    r"GOCSPX-[A-Za-z0-9_-]{16,}",
    r"ya29\.[A-Za-z0-9_-]{20,}",
    r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+){0,3}",
)
_LOOSE_SK = r"sk-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{16,}"
_PEM = (
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----(?:(?!-----END)(?:\\[nr]|[A-Za-z0-9+/=:, \t\r\n-]))*"
    r"(?:-----END [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----)?"
)
_SCHEME = (
    r"(?P<scheme>(?i:bearer|basic)[ \t]+)"
    r"(?=[A-Za-z0-9._~+/-]*(?:[0-9=]|[a-z][A-Z]))[A-Za-z0-9._~+/-]{12,}={0,2}"
)
_URL = r"""(?P<url>://[^\s/:@"'<>\\]*:)(?!\[REDACTED)[^\s/"'<>\\?\#]+(?=@)"""

_KEYS = rf"{_LEFT}(?:{'|'.join(_VENDOR_KEYS)}|{_LOOSE_SK}|{_SCHEME})|{_PEM}|{_URL}"

_BEFORE_KEY = ("api", "secret", "private", "access", "account", "signing", "encryption", "subscription", "master")
_BEFORE_TOKEN = ("access", "refresh", "auth", "id", "session", "security", "bearer", "api", "oauth", "bot", "private")
_STRONG = (
    rf"(?:{'|'.join(_BEFORE_KEY)})[-_. ]?(?:access[-_. ]?)?key"
    rf"|(?:{'|'.join(_BEFORE_TOKEN)})[-_. ]?(?:access[-_. ]?)?token"
    r"|secret|passw(?:or)?d|passphrase|authorization|credentials?|cookie"
    # the shell's PWD is the folder it works in
    rf"|pwd(?!\\*[\"']?{_BLANK}[:=]>?{_BLANK}\\*[\"']?[/~.])"
)
_ASSIGN = rf"{_BLANK}(?:=>?(?!=)|%3D){_BLANK}"
_NAMES = (
    # "name": "value", name = 'value', \"name\": \"value\" of JSON inside JSON: all up to the quote that closes it
    rf"(?P<quoted>(?:{_STRONG})\\*[\"']?(?:{_BLANK}:{_BLANK}|{_ASSIGN})(?P<q>\\*[\"'])){_FRESH}"
    r"(?:(?!(?P=q))(?:\\+.|[^\\\r\n])){6,}"
    # name=value
    rf"|(?P<bare>(?:{_STRONG}){_ASSIGN}(?:(?:bearer|basic|token|digest|apikey)[ \t]+)?+){_FRESH}"
    r"[^\s\"'\\&;<>]{5,}[^\s\"'\\&;<>,)\]}]"
    # Cookie: a=b; c=d
    rf"|(?P<cookie>cookie:[ \t]*){_FRESH}[^\s\"'\\=]+=[^\r\n\"'\\]+"
    # name: value, as in headers and YAML; prose ("the password: please ask") has no digit in the word that follows
    rf"|(?P<header>(?:{_STRONG}):[ \t]*(?:(?:bearer|basic|token|digest|apikey)[ \t]+)?+){_FRESH}"
    r"(?=[^\s\"'\\,;]*[0-9])[^\s\"'\\,;]{8,}"
    rf"|(?P<scheme>authorization:[ \t]*(?:bearer|basic|token|digest|apikey)[ \t]+){_FRESH}[^\s\"'\\,;]{{6,}}"
    # ?key=value, &sig=value
    rf"|(?P<query>(?:[?&]|\\u0026|%26|%3F)(?:key|sig|token|auth|(?:x-amz-|x-goog-)?signature)(?:=|%3D)){_FRESH}"
    r"[^\s\"'\\&;<>\#]{6,}"
    # token: weak, since pagination and tokenizers use the word too; what follows must look like a secret
    rf"|(?P<weak>token\\*[\"']?{_BLANK}(?:=>?|:|%3D){_BLANK}(?:\\*[\"'])?){_FRESH}"
    r"(?=[A-Za-z._~+/-]*[0-9])[A-Za-z0-9._~+/-]{20,}={0,2}"
)


def _cased(word: str) -> str:
    """The spellings in use: with (?i) the engine has no literals to search for and takes three times as long."""
    return f"(?:{'|'.join(dict.fromkeys((word, word.upper(), word.capitalize())))})"


_NAME_STARTS = (
    ("secret", ""),
    ("passw", "(?:or)?d"),
    ("passphrase", ""),
    ("token", ""),
    ("author", "ization"),
    ("credential", "s?"),
    ("cookie", ""),
    ("pwd", ""),
)


def _name_matcher() -> str:
    value = r"""(?:\\*["'][^\r\n]|[^ \t\r\n"'\\]{6})"""
    after = rf"""\\*["']?{_BLANK}(?:=>?|:|%3[Dd]){_BLANK}(?:(?i-u:bearer|basic|token|digest|apikey)[ \t]+)?{value}"""
    keys = "|".join(map(_cased, _BEFORE_KEY))
    return "|".join(
        (
            rf"(?:{keys})(?i-u:[-_. ]?(?:access[-_. ]?)?key){after}",
            *(rf"{_cased(start)}(?i-u:{rest}){after}" for start, rest in _NAME_STARTS),
            rf"""{_cased("cookie")}:[ \t]*[^ \t\r\n"'\\=]+=""",
            # with a few more literals than this the engine changes to another search, and that takes five times as long
            r"(?:[?&]|%26|%3F|u0026)"
            r"(?:key|sig|token|auth|signature|Signature|X-Amz-Signature|X-Goog-Signature)(?:=|%3[Dd])",
        )
    )


def _matcher(pattern: str) -> Callable[[str], bool]:
    matches: Callable[[str], bool] = TypeAdapter(
        Annotated[str, StringConstraints(pattern=pattern)]
    ).validator.isinstance_python
    return matches


_KEY_MATCHER = "|".join(
    (
        *_VENDOR_KEYS,
        r"sk-[A-Za-z_-]*[0-9]",
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY",
        r"(?:[Bb]earer|BEARER|[Bb]asic|BASIC)[ \t]+[A-Za-z0-9._~+/-]{12}",
        r"""://[^ \t\r\n/:@"'<>\\]*:[^ \t\r\n/"'<>\\?#]+@""",
    )
)
_SIMPLE = re.compile(r"(?:[A-Za-z0-9_@:/ -]|\[[A-Za-z0-9_]+(?:-[A-Za-z0-9_]+)*-?\]|\\[d.-]|[{}+*?,|()])+")


class _Rule:
    """An exact pattern, whose named group is the part before the secret, and the matcher that leads to it."""

    __slots__ = ("_exact", "_lead", "may_match")

    def __init__(self, exact: re.Pattern[str], may_match: Callable[[str], bool], *, lead: int = 0) -> None:
        self._exact = exact
        self._lead = lead  # how many characters before the matcher's find the exact one may begin
        self.may_match = may_match

    def apply(self, text: str) -> tuple[str, int]:
        """*text* without what the pattern finds, and how often that was."""
        pieces: list[str] = []
        done = at = 0
        while at < len(text):
            window = text[at : at + _WINDOW]
            if not self.may_match(window):
                at += _WINDOW - _OVERLAP
                continue
            start, end = self._narrow(window)
            found = self._search(text, at, at + start, at + end)
            if found is None:
                at += start + 1
                continue
            kept = found[found.lastgroup] if found.lastgroup else ""
            pieces += (text[done : found.start()], kept, MARK)
            done = at = found.end()
        if not pieces:
            return text, 0
        return "".join((*pieces, text[done:])), len(pieces) // 3

    def _search(self, text: str, at: int, start: int, end: int) -> re.Match[str] | None:
        """What the exact pattern finds at the matcher's find, or near it: theirs may begin a little earlier."""
        reach = end + _NEAR
        found = self._exact.match(text, start, reach)
        if found is None and self._lead <= 8:  # cheaper than a search, which would go on to the end
            before = (self._exact.match(text, begin, reach) for begin in range(max(start - self._lead, at), start))
            found = next(filter(None, before), None)
        elif found is None:
            found = self._exact.search(text, max(start - self._lead, at), reach)
        if found is None or found.start() > start:
            return None
        return self._exact.match(text, found.start()) if found.end() >= reach else found

    def _narrow(self, window: str) -> tuple[int, int]:
        """Start and end of what the matcher finds first, by halving: `re` takes 500 ns for each character it tries."""
        low, high = 0, 64
        while high < len(window) and not self.may_match(window[:high]):
            low, high = high, high * 4
        high = min(high, len(window))
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.may_match(window[:middle]) else (middle, high)
        end = high
        low, high = 0, end
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.may_match(window[middle:end]) else (low, middle)
        return low, end


def _apply_custom(pattern: re.Pattern[str], text: str) -> tuple[str, int]:
    """A user's pattern, which only `re` understands: no matcher, no windows, nothing redacted twice."""
    pieces, count = [], 0
    for piece in text.split(MARK):
        cleaned, found = pattern.subn(lambda match: MARK if match[0] else "", piece)
        pieces.append(cleaned)
        count += found
    return (MARK.join(pieces), count) if count else (text, 0)


@cache
def _built_in() -> tuple[_Rule, _Rule]:
    """The rules for names and for keys. Compiling them takes 30 ms, which an import has better use for."""
    return (
        _Rule(re.compile(_NAMES, re.IGNORECASE | re.ASCII), _matcher(_name_matcher()), lead=8),
        _Rule(re.compile(_KEYS, re.ASCII), _matcher(_KEY_MATCHER), lead=512),
    )


def _custom(pattern: str) -> re.Pattern[str]:
    try:
        exact = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as problem:
        raise ConfigError("HUB_REDACT_PATTERNS", pattern, f"it is no regular expression of Python: {problem}") from None
    if exact.match("") is not None:
        raise ConfigError("HUB_REDACT_PATTERNS", pattern, "it matches the empty text; make it match the secret only")
    return exact


_GLUED = re.compile(r"\[REDACTED\][A-Za-z0-9]")  # a key glued to another is recognised once that one is gone


class Redactor:
    """Takes secrets out of text: the built-in rules, then *patterns* (each match goes as a whole), then *redact*.

    *redact* must be pure, as its answers are remembered. Where it raises or returns no str, FAILED_MARK replaces the
    text.

    Raises: ConfigError: One of *patterns* is no regular expression, or matches the empty text.
    """

    __slots__ = ("_built_in", "_custom", "_function", "_key_in", "_name_in", "_own", "shortest")

    def __init__(self, *, patterns: Sequence[str] = (), redact: Callable[[str], str] | None = None) -> None:
        self._built_in = _built_in()
        self._name_in, self._key_in = (rule.may_match for rule in self._built_in)
        self._custom = tuple(map(_custom, patterns))
        self._function = redact
        self._own = bool(patterns) or redact is not None
        self.shortest = 1 if patterns or redact else SHORTEST

    def passes(self, text: str) -> bool:
        """Whether there is certainly nothing to do: the usual case, so that it decides what redaction costs.

        Every name is followed by = or a colon. To look for those first spares a program that pauses between calls,
        where the matcher's tables are out of the processor's cache.
        """
        if self._own or self._key_in(text):
            return False
        return not (("=" in text or ":" in text or "%3" in text) and self._name_in(text))

    def __call__(self, text: str) -> tuple[str, int, bool]:
        """*text* redacted, how many secrets went, and whether the user's function failed on it."""
        count = 0
        for _ in range(_ROUNDS):
            before = count
            for rule in self._built_in:
                if rule.may_match(text):
                    text, found = rule.apply(text)
                    count += found
            if count == before or _GLUED.search(text) is None:
                break
        for pattern in self._custom:
            text, found = _apply_custom(pattern, text)
            count += found
        if self._function is None:
            return text, count, False
        try:
            changed = self._function(text)
        except BaseException as error:
            if not is_harmless(error):
                raise
            changed = None
        if not isinstance(changed, str):
            return FAILED_MARK, count + 1, True
        return changed, count + (changed != text), False


_NAME_NOISE = re.compile(r"[-_. ]")
_STRONG_ENDINGS = (
    *(f"{word}{access}key" for word in _BEFORE_KEY for access in ("", "access")),
    *(f"{word}{access}token" for word in _BEFORE_TOKEN for access in ("", "access")),
    *("secret", "password", "passwd", "pwd", "passphrase", "authorization", "credential", "credentials", "cookie"),
)
_WEAK_VALUE = re.compile(r"(?=[A-Za-z._~+/-]*[0-9])[A-Za-z0-9._~+/-]{20,}={0,2}")


def secret_name(name: str) -> bool:
    """Whether text under this key of a dict or field of an object is a secret, whatever it looks like."""
    return len(name) <= 128 and _NAME_NOISE.sub("", name).lower().endswith(_STRONG_ENDINGS)


def weak_name(name: str) -> bool:
    """Whether text under this key is a secret if it looks like one: log probabilities call each word `token`."""
    return len(name) <= 128 and name[-5:].lower() == "token"


def looks_secret(value: str) -> bool:
    """Long, without blanks, with a digit: for the value of a weak name."""
    return _WEAK_VALUE.fullmatch(value) is not None
