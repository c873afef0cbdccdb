"""What every column of the public views means, spelled out once, for `hub sql --schema` and whoever writes a query.

tests/test_view_columns.py holds it to the views, and the types and the nulls to what a full store has in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal, NamedTuple, get_args

Type = Literal["text", "integer", "double", "timestamp", "json", "flag"]
"""timestamp: UTC; on SQLite the text YYYY-MM-DDTHH:MM:SS.ffffffZ. json: text that is JSON. flag: 0 or 1."""

NEVER: Final = "never"


class Column(NamedTuple):
    """One column of a view."""

    name: str
    type: Type | None
    """None: what contributed it has not said."""
    unit: str
    """Empty where there is none."""
    meaning: str
    null: str
    """When it is null; `never`."""


class View(NamedTuple):
    """One public view."""

    meaning: str
    columns: tuple[Column, ...]


_LLM_CALLS = """
A row for each call.
call_id | text | | names the call; a UUIDv7, so ids sort by when calls began | never
project | text | | of the program that made the call | never
environment | text | | where that ran, such as production | the event that told of the call has none
service | text | | the program's name | never
producer | text | | names the process that recorded the call | never
session_id | text | | of hub.session: what the call belongs to | outside a session, or erased
user_id | text | | of hub.session: for whom | none was given, or erased
trace_id | text | | the trace of the call's span, 32 hexadecimal digits | the call has no span
span_id | text | | the call's span, 16 hexadecimal digits | the call has no span
parent_span_id | text | | the span around it | the call began its trace
provider | text | | who was asked, such as openai | unknown
operation | text | | what for: chat, embeddings, ... | unknown
request_model | text | | the model asked for | unknown
response_model | text | | the model that served it, as the answer says | no answer, or it does not say
tier | text | | the tier that the provider chose the model for | no tier was asked for
response_id | text | | the provider's id of the answer | no answer, or it has none
server_address | text | | the host that was asked | it was not seen
status | text | | ok, error, cancelled, abandoned, lost or running | never
status_code | integer | | HTTP status of the answer | no HTTP answer was seen
error_type | text | | what kind of failure | it did not fail
error_message | text | | what the failure said | it did not fail, its text was not kept, or erased
finish_reason | text | | why the first choice ended: stop, length, tool_calls, ... | no answer, or it does not say
stream | flag | | 1 where the answer was to be streamed | unknown
started_at | timestamp | | when the request began | only the end was recorded
started_unix | double | s | the same, since 1970 | only the end was recorded
ended_at | timestamp | | when the call had ended | running or lost
ended_unix | double | s | the same, since 1970 | running or lost
duration_ms | double | ms | from the request to the end of the answer | running or lost
ttft_ms | double | ms | from the request to the first chunk of the answer | not streamed, or no chunk came
chunk_count | integer | chunks | of a streamed answer | not streamed, or unknown
attempts | integer | attempts | that the call took, the last included | running or unknown
continuation_count | integer | requests | that only continued an answer which was cut off | unknown
message_count | integer | messages | of the request | unknown
has_system | flag | | 1 where one of them is the system's | unknown
tool_count | integer | tools | that the model was offered | unknown
params | json | | the request's parameters by name: temperature, max_tokens, ... | it had none
input_tokens | integer | tokens | of the request, cached ones included | unknown
output_tokens | integer | tokens | of the answer, reasoning included | unknown
cache_read_tokens | integer | tokens | of the input, read from the provider's cache | unknown
cache_write_tokens | integer | tokens | of the input, written to the provider's cache | unknown
reasoning_tokens | integer | tokens | of the output, spent on reasoning | unknown
total_tokens | integer | tokens | input and output | one of them is unknown
cost_usd | double | USD | cost_nanos for display | unknown
cost_nanos | integer | nano-dollars | what the call cost, exact | unknown: no price, or no token counts
cost_source | text | | whose word that is: provider, genai-prices, attempts, cache, ... | the cost is unknown
price_version | text | | the price list it was computed with | unknown, or reported
response_cached | flag | | 1 where the answer came from a cache and cost nothing | unknown
counted | flag | | 0 where another layer recorded the same call: sums leave it out | never
capture | text | | what was kept of its content: none, summary or full | unknown
request_summary | text | | a line of the newest message | content was not kept, or erased
response_summary | text | | a line of the answer | no answer, content was not kept, or erased
tags | json | | of hub.session: an object | there were none, or erased
source | text | | who recorded it: traced, transport, amplifier, otlp, import, replay or emitted | unknown
replay_of | text | | call_id of the call that this one repeats | it is no replay
replay_run | text | | names the replay | it is no replay
"""

_LLM_MESSAGES = """
A row for each part of a message that was sent or came back.
call_id | text | | the call | never
direction | text | | input or output | never
position | integer | | counts from 0 within the call and direction | never
role | text | | user, assistant, system, tool, ... | the message has none
type | text | | text, thinking, tool_call, tool_result, image, ... | never
name | text | | of the tool, or of the author | it has none
tool_call_id | text | | ties a tool's result to what asked for it | it has to do with no tool
content | text | | the text; arguments of a tool call; JSON where it is no text | an image or the like
bytes | integer | bytes | of content, as UTF-8 | never
"""

_LLM_TOOL_CALLS = """
A row for each tool that a model asked for.
call_id | text | | the call whose answer asked | never
position | integer | | the part's position in llm_messages, direction output | never
tool_call_id | text | | the model's id for it | it gave none
name | text | | the tool | the model did not say
arguments | text | | what it was to be called with, JSON as a rule | there were none
result | text | | what the tool answered, as a later call of the session told the model | no call told it
result_call_id | text | | the first call that told it | no call told it
"""

_LLM_ATTEMPTS = """
A row for each attempt of a call, the last included.
call_id | text | | the call | never
attempt | integer | | counts from 1 | never
started_at | timestamp | | when it began | unknown
duration_ms | double | ms | until it failed or was answered | running or unknown
provider | text | | who was asked | unknown
model | text | | the model that was asked | unknown
status_code | integer | | HTTP status of its answer | no HTTP answer was seen
error_type | text | | what kind of failure | it did not fail
delay_ms | double | ms | the wait before the next attempt | unknown, or there was no next one
input_tokens | integer | tokens | it used | unknown
output_tokens | integer | tokens | it used | unknown
cost_nanos | integer | nano-dollars | what it cost | unknown
"""

_LLM_EVENTS = """
A row for each event: the log that all other views are made from.
position | integer | | the place in the log, from 1, in the order of writing | never
event_id | text | | names the event | never
stream_id | text | | the call's id, or the writer's own stream | never
version | integer | | the place in the stream, from 1 | never
call_id | text | | the call it is about | it is about none
type | text | | such as llm:request, provider:retry, acme:rate_limit | never
schema_version | integer | | of data | never
level | text | | info, or debug where the event carries content | never
occurred_at | timestamp | | when it happened, by the clock there | never
occurred_ns | integer | ns | the same, since 1970 | never
recorded_at | timestamp | | when the store took it | never
project | text | | of the program | never
session_id | text | | of hub.session | outside a session, or erased
trace_id | text | | the trace of the call's span | there is no span
span_id | text | | the call's span | there is no span
causation_id | text | | the event that led to this one | none is known
producer | text | | names the process that made it | never
producer_seq | integer | | counts that process's events, without gaps | never
data | json | | the payload, without text of prompts, answers, errors or tools | never
"""

_LLM_COSTS_HOURLY = """
A row for each hour and model, of the calls that began in it and count.
hour | timestamp | | when the hour began | never
project | text | | of the calls | never
service | text | | of the calls | never
provider | text | | of the calls | unknown
model | text | | asked for, else the one that answered | unknown
calls | integer | calls | that began in the hour | never
errors | integer | calls | of these with status error | never
input_tokens | integer | tokens | of all whose count is known | none is known
output_tokens | integer | tokens | of all whose count is known | none is known
cache_read_tokens | integer | tokens | of all whose count is known | none is known
cache_write_tokens | integer | tokens | of all whose count is known | none is known
reasoning_tokens | integer | tokens | of all whose count is known | none is known
cost_usd | double | USD | cost_nanos for display | no cost is known
cost_nanos | integer | nano-dollars | of all whose cost is known | no cost is known
unpriced_calls | integer | calls | that cost something nobody knows | never
"""

_LLM_LATENCY_HOURLY = """
A row for each hour, model and latency bucket that calls fell into.
hour | timestamp | | when the hour began | never
project | text | | of the calls | never
service | text | | of the calls | never
provider | text | | of the calls | unknown
model | text | | asked for, else the one that answered | unknown
metric | text | | duration, or ttft: the time to the first chunk | never
le | double | ms | the bucket's upper bound, 2^(k/4) for k from 0 to 88; the lower one is that of k - 1 | above 2^22 ms
calls | integer | calls | in this bucket alone | never
"""

_LLM_MODELS = """
A row for each model that a provider listed.
provider | text | | who offers it | never
model | text | | its name there | never
display_name | text | | its name for people | not told
context_window | integer | tokens | that request and answer may have together | not told
max_output_tokens | integer | tokens | that an answer may have | not told
input | double | nano-dollars/token | price of input | not told
output | double | nano-dollars/token | price of output | not told
cache_read | double | nano-dollars/token | price of input read from the cache | not told
cache_write | double | nano-dollars/token | price of input written to the cache | not told
cost_tier | text | | how dear it is, in the provider's word | not told
capabilities | json | | what it can do | not told
metadata | json | | what else the provider said | not told
seen_at | timestamp | | when it was last listed | unknown
"""

_LLM_SPANS = """
A row for each span that was received and is no call.
trace_id | text | | its trace, 32 hexadecimal digits | never
span_id | text | | the span, 16 hexadecimal digits | never
parent_span_id | text | | the span around it | it began its trace
name | text | | what it did | it was erased
kind | text | | INTERNAL, CLIENT, SERVER, ... | not told, or erased
service | text | | the program's name | never
started_at | timestamp | | when it began | never
duration_ms | double | ms | how long it took | not told, or erased
status | text | | UNSET, OK or ERROR | not told, or erased
attributes | json | | what else it says | it says no more, or was erased
"""

_ENVELOPE = """
A row for each event of a type that a program contributed.
position | integer | | the place in the log, as in llm_events | never
event_id | text | | names the event | never
call_id | text | | the call within which it was emitted | outside a call
project | text | | of the program | never
session_id | text | | of hub.session | outside a session, or erased
user_id | text | | of hub.session | none was given, or erased
trace_id | text | | the trace around it | there was none
occurred_at | timestamp | | when it happened | never
"""

_KINDS: Final[Mapping[str, Type]] = {
    "text": "text",
    "integer": "integer",
    "real": "double",
    "boolean": "flag",
    "json": "json",
}
"""What hub:schema events call the types of a payload's fields."""


def _view(text: str) -> View:
    meaning, *lines = text.strip().splitlines()
    return View(meaning, tuple(_columns(lines)))


def _columns(lines: list[str]) -> Iterator[Column]:
    types: Mapping[str, Type] = {name: name for name in get_args(Type)}
    for line in lines:
        name, kind, unit, meaning, null = (piece.strip() for piece in line.split("|"))
        yield Column(name, types[kind], unit, meaning, null)


COLUMNS: Final[Mapping[str, View]] = {
    "llm_calls": _view(_LLM_CALLS),
    "llm_messages": _view(_LLM_MESSAGES),
    "llm_tool_calls": _view(_LLM_TOOL_CALLS),
    "llm_attempts": _view(_LLM_ATTEMPTS),
    "llm_events": _view(_LLM_EVENTS),
    "llm_costs_hourly": _view(_LLM_COSTS_HOURLY),
    "llm_latency_hourly": _view(_LLM_LATENCY_HOURLY),
    "llm_models": _view(_LLM_MODELS),
    "llm_spans": _view(_LLM_SPANS),
}
"""The views of the contract."""

_CONTRIBUTED: Final = _view(_ENVELOPE)
_ENVELOPE_COLUMNS: Final = {column.name: column for column in _CONTRIBUTED.columns}


def contributed(fields: Mapping[str, object], columns: Iterable[str]) -> View:
    """The view of a contributed event type, as it stands with *columns*.

    Args:
        fields: What hub:schema events say of the payload's fields: name to kind.
    """

    def column(name: str) -> Column:
        if name not in fields and name in _ENVELOPE_COLUMNS:
            return _ENVELOPE_COLUMNS[name]
        kind = _KINDS.get(str(fields.get(name)))
        return Column(name, kind, "", "a field of the payload", "the event has none, or was erased")

    return View(_CONTRIBUTED.meaning, tuple(map(column, columns)))
