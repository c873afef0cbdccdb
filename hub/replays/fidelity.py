"""Whether what left is what left before; else how it differs, field by field, and never with a value: those may be
anybody's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Literal

from hub.replays.conversation import Lost
from hub.replays.original import REDACTED, Original, redacted
from hub.replays.plan import Plan, spelled
from hub.replays.rebuild import UNSURE, Wanted
from hub.replays.witness import Testimony

Fidelity = Literal["exact", "lossy"]

_CHANGED = "changed by you"
_UNSEEN = "nobody can compare its bytes: they were not recorded, or several were sent"
_CUT = "its bytes were cut before they were kept"

_DEEP = ("messages", "input", "tools", "response_format", "text", "reasoning")
"""Where the path within a field says more than its name."""
_FIELD = re.compile(r"[.\[]")
_MOST = 100


def judged(plan: Plan, seen: Testimony) -> tuple[Fidelity, Lost]:
    """Whether the bytes that left are the original's, by the bytes themselves where they were seen."""
    origin, wanted, left = plan.original, plan.wanted, seen.body()
    changed = dict.fromkeys(sorted(wanted.changed), _CHANGED)
    if left is None and plan.body is not None and plan.target.vouched:
        left = plan.body
    if origin.body_json() is not None and left is not None:
        if left == origin.body and origin.untouched:
            return "exact", {}
        lost = differences(origin.body or b"", left)
        lost.update(_touched(origin, lost))
        asked_for = {*changed, *(spelled(name, origin.body_json() or {}) for name in changed)}
        lost.update({place: _CHANGED for place in lost if _FIELD.split(place, maxsplit=1)[0] in asked_for})
        return "lossy", lost or {"body": "it was changed before it was kept"}
    kept = {name: why for name, why in origin.lost.items() if name not in wanted.params}
    made = plan.asking.lost if plan.asking is not None else {}
    lost = {**kept, **made, **changed}
    told = seen.asked
    for name in list(lost):
        if name not in changed and not lost[name].startswith(UNSURE) and _is_asked(name, wanted, told):
            del lost[name]
    lost["body"] = _UNSEEN if origin.body is None or origin.body_json() is not None else _CUT
    return "lossy", lost


def _touched(origin: Original, found: Mapping[str, str]) -> Lost:
    """What of the stored body is no longer as it was sent."""
    if origin.untouched:
        return {}
    known = redacted(origin.body_json() or {})
    known = known or {name: why for name, why in origin.lost.items() if why == REDACTED}
    return known or ({} if found else {"body": "changed before it was kept, in a place that nobody knows"})


def _is_asked(name: str, wanted: Wanted, told: Mapping[str, Any]) -> bool:
    """Whether the new call asked for the same, in whatever way the target came to it."""
    if name == "model":
        return told.get("model") is not None and told.get("model") == wanted.model
    if name not in wanted.params:
        return False
    params = told.get("params")
    return isinstance(params, Mapping) and name in params and params[name] == wanted.params[name]


def differences(before: bytes, now: bytes) -> Lost:
    """Fields of the body *before* that *now* has not, or not so, and new ones; empty when the bytes are the same."""
    if before == now:
        return {}
    one, other = _opened(before), _opened(now)
    if not isinstance(one, dict) or not isinstance(other, dict):
        return {"body": "sent differently"}
    try:
        found = dict(_pairs(one, other))
    except RecursionError:
        return {"body": "sent differently, in a place too deep to look at"}
    return found or {"body": "the same values, written differently"}


def _pairs(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in (*one, *(name for name in other if name not in one)):
        if name not in other:
            yield name, "not sent"
        elif name not in one:
            yield name, "added"
        elif one[name] != other[name]:
            yield from _within(name, one[name], other[name]) if name in _DEEP else [(name, "sent differently")]


def _within(path: str, one: Any, other: Any) -> list[tuple[str, str]]:
    found = list(_places(path, one, other))
    return found if len(found) <= _MOST else [(path, f"sent differently in {len(found)} places")]


def _places(path: str, one: Any, other: Any) -> Iterator[tuple[str, str]]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in (*one, *(key for key in other if key not in one)):
            if key not in other:
                yield f"{path}.{key}", "not sent"
            elif key not in one:
                yield f"{path}.{key}", "added"
            elif one[key] != other[key]:
                yield from _places(f"{path}.{key}", one[key], other[key])
    elif isinstance(one, list) and isinstance(other, list):
        for index in range(max(len(one), len(other))):
            if index >= len(other):
                yield f"{path}[{index}]", "not sent"
            elif index >= len(one):
                yield f"{path}[{index}]", "added"
            elif one[index] != other[index]:
                yield from _places(f"{path}[{index}]", one[index], other[index])
    else:
        yield path, "sent differently"


def _opened(body: bytes) -> Any:
    """*body* with all that tells two values apart: true is not 1, digits are not rounded, a key may come twice."""
    try:
        return json.loads(body, parse_int=_number, parse_float=_number, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        return None


def _number(text: str) -> Any:
    try:
        return "number", Decimal(text)
    except ArithmeticError:  # an exponent beyond all bounds
        return "number", text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, list[Any]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else tuple(values) for name, values in found.items()}
