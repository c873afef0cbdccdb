"""Every error the hub raises on purpose.

HubError
├── ConfigError            a setting that cannot be used
├── NameClash              another package has the name of one of the hub's (also an ImportError)
├── MissingExtra           packages of an extra are not installed (also an ImportError)
├── NotTraceable           hub.traced was given something without a call method (also a TypeError)
├── FileRefused            a file that an export does not write, or that an import cannot read
├── InvalidEvent           a contributed event or event class that cannot be registered or emitted (also a ValueError)
├── NotFound               no such call, session or event
├── AmbiguousId            a prefix that names more than one call
├── ReplayImpossible       a call that cannot be sent again
├── EndpointUnavailable    an OTLP endpoint that takes no spans
├── SearchOff              full-text search that nobody turned on
├── QueryRefused           SQL that is not a read of the views
│   └── QueryLimit         SQL that was stopped by the time, size or row limit
└── StoreError             the event store
    ├── StoreUnavailable   locked, full, read-only or away: may succeed when tried again
    ├── ForeignStore       the database belongs to another program
    └── SchemaMismatch     the store is older or newer than this version of the hub

None of them is ever raised into a program because it is observed: they come from set-up, reading and commands.
"""

from __future__ import annotations


class HubError(Exception):
    """Base of all errors raised by the hub. The message says what to do next."""


class ConfigError(HubError):
    """A setting that cannot be used."""

    def __init__(self, setting: str, value: object, remedy: str) -> None:
        super().__init__(f"{setting}: {value!r} cannot be used; {remedy}")
        self.setting, self.value, self.remedy = setting, value, remedy


class NameClash(HubError, ImportError):
    """Where Python looks for a package of the hub's it finds another one of that name. *found* is None for nothing."""

    def __init__(self, name: str, *, found: str | None, wanted: str) -> None:
        super().__init__(
            f"`import {name}` gives {found or 'nothing'}, not LLM Hub's own package {wanted}; rename that one, move it "
            "into a package of yours or, where only the program's folder brings it in, start with python -P",
            name=name,
            path=found,
        )
        self.found, self.wanted = found, wanted


class MissingExtra(HubError, ImportError):
    """Something that only an extra of the distribution brings. *what* begins the sentence: "Parquet needs ..."."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs packages that are not installed; run: pip install 'llm-hub[{extra}]'")
        self.what, self.extra = what, extra


class NotTraceable(HubError, TypeError):
    """hub.traced was given an object on which it finds no method that calls a model."""

    def __init__(self, target: str, remedy: str) -> None:
        super().__init__(f"{target} has no method that calls a model; {remedy}")
        self.target, self.remedy = target, remedy


class FileRefused(HubError):
    """A file that an export does not write, or that an import cannot read. It is left as it is."""

    def __init__(self, path: str, reason: str, remedy: str) -> None:
        super().__init__(f"{path}: {reason}; {remedy}")
        self.path, self.reason, self.remedy = path, reason, remedy


class InvalidEvent(HubError, ValueError):
    """An event class or payload that the registry refuses."""

    def __init__(self, event_type: str, reason: str) -> None:
        super().__init__(f"{event_type}: {reason}")
        self.event_type, self.reason = event_type, reason


class NotFound(HubError, LookupError):
    """Nothing in the store has this id."""

    def __init__(self, what: str, wanted: str, remedy: str) -> None:
        super().__init__(f"no {what} {wanted!r}; {remedy}")
        self.what, self.wanted, self.remedy = what, wanted, remedy


class AmbiguousId(HubError, LookupError):
    """A prefix that several calls share."""

    def __init__(self, prefix: str, matches: tuple[str, ...]) -> None:
        shown = ", ".join(matches[:4]) + (", ..." if len(matches) > 4 else "")
        super().__init__(f"{prefix!r} names several calls ({shown}); give more characters")
        self.prefix, self.matches = prefix, matches


class ReplayImpossible(HubError):
    """A recorded call cannot be sent again; nothing was sent."""

    def __init__(self, call_id: str, why: str, remedy: str) -> None:
        super().__init__(f"call {call_id} cannot be replayed: {why}; {remedy}")
        self.call_id, self.why, self.remedy = call_id, why, remedy


class EndpointUnavailable(HubError):
    """An OTLP endpoint does not take what is sent to it. What it has taken is not forgotten."""

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(f"{endpoint}: {reason}; when it is back, run this again: it goes on where it was")
        self.endpoint, self.reason = endpoint, reason


class QueryRefused(HubError):
    """SQL that is not a read of the public views."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason, self.remedy = reason, remedy


class QueryLimit(QueryRefused):
    """SQL that ran into the time, memory or row limit."""


class SearchOff(HubError):
    """The store keeps no full-text index."""

    def __init__(self) -> None:
        super().__init__("search is off in this store; hub search --enable makes an index of what it holds")


class StoreError(HubError):
    """The event store failed. `url` is shown without password."""

    def __init__(self, url: str, reason: str, remedy: str) -> None:
        super().__init__(f"{url}: {reason}; {remedy}")
        self.url, self.reason, self.remedy = url, reason, remedy


class StoreUnavailable(StoreError):
    """Locked, full, read-only or away. Nothing of the batch was taken; the same batch may be tried again."""


class ForeignStore(StoreError):
    """The database has tables, and they are not the hub's."""


class SchemaMismatch(StoreError):
    """The store's schema is not the one this version of the hub writes. It is left untouched."""

    def __init__(self, url: str, *, found: str, expected: str, remedy: str) -> None:
        super().__init__(url, f"schema {found}, this version of the hub knows {expected}", remedy)
        self.found, self.expected = found, expected
