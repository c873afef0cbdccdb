"""Whether SQL from people may run on PostgreSQL: one reading statement over the public views, and nothing else.

No list of what is dangerous would ever be complete, and PostgreSQL evaluates what is immutable already when it plans,
so the check is of the text. It does not parse; it looks at each name together with its neighbours, and asks the
database what the name could mean there:

- before a parenthesis: a function of our list, a keyword of our list, or no function, type or keyword at all;
- behind FROM, JOIN, a comma, a parenthesis: a public view, or no relation of the schemas that are searched;
- before a dot: no schema but that of the views, and then a public view follows;
- behind a dot: no function but those of our list, for ('x').f is f('x'), and t.f is f of a row of t;
- where a type may stand: a type of our list, or none;
- a reserved word or an operator: one of our lists.

So whatever is not known here, or comes with a newer PostgreSQL or an extension, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from storage.engine import Connection
from storage.postgres_lexer import Token
from storage.postgres_rules import (
    BEFORE_PARENTHESIS,
    EXPLAIN_OPTIONS,
    FUNCTIONS,
    KEYWORDS,
    LOCKS,
    OPERATORS,
    TYPES,
    WRITES,
)
from storage.query import not_a_read, not_allowed, not_alone, quoted, wrong_sql

_LOOK_UP = """
SELECT 'relation', relname::text FROM pg_catalog.pg_class
  WHERE relname = ANY(CAST(? AS name[])) AND relnamespace IN ('pg_catalog'::regnamespace, CAST(? AS text)::regnamespace)
UNION ALL SELECT 'function', proname::text FROM pg_catalog.pg_proc WHERE proname = ANY(CAST(? AS name[]))
UNION ALL SELECT 'of a row', p.proname::text FROM pg_catalog.pg_proc p
  JOIN pg_catalog.pg_type t ON t.oid = p.proargtypes[0]
  WHERE p.proname = ANY(CAST(? AS name[])) AND t.typtype IN ('c', 'p') AND p.pronargs - p.pronargdefaults <= 1
UNION ALL SELECT 'type', typname::text FROM pg_catalog.pg_type WHERE typname = ANY(CAST(? AS name[]))
UNION ALL SELECT 'schema', nspname::text FROM pg_catalog.pg_namespace WHERE nspname = ANY(CAST(? AS name[]))
UNION ALL SELECT 'keyword ' || catcode::text, word FROM pg_catalog.pg_get_keywords() WHERE word = ANY(CAST(? AS text[]))
"""
_BEFORE_RELATION = ("from", "join", "only", "table", ",", "(")
_BEFORE_TYPE = ("::", "as")
_NOTHING = Token("mark", "", 0, 0)


def check(statement: Sequence[Token], views: Mapping[str, Sequence[str]], schema: str, connection: Connection) -> None:
    """
    Args:
        views: The public views with their columns, all of *schema*. Besides it only pg_catalog may be searched when the
            statement runs.
        connection: To the database that it would run in.
    Raises: QueryRefused: It is not one reading statement over *views*.
    """
    body = statement[:-1] if statement and statement[-1].says(";") else statement
    if any(token.says(";") for token in body):
        raise not_alone()
    body = _read_in(body, views)
    names = sorted({token.value for token in body if token.names})
    known: dict[str, set[str]] = {}
    for kind, name in connection.execute(_LOOK_UP, (names, quoted(schema), *[names] * 5)):
        known.setdefault(kind, set()).add(name)
    _Names(views, schema, known).check(body)


def _read_in(body: Sequence[Token], views: Mapping[str, Sequence[str]]) -> Sequence[Token]:
    """*body* without EXPLAIN and its options."""
    start = 0
    if body and body[0].says("explain"):
        start = 1
        if len(body) > 1 and body[1].says("("):
            start = next((at + 1 for at, token in enumerate(body) if token.says(")")), len(body))
            wrong = [token.value for token in body[2 : start - 1] if not token.says(",", *EXPLAIN_OPTIONS)]
            if wrong:
                raise not_allowed(f"EXPLAIN with {wrong[0].upper()}", views)
        while start < len(body) and body[start].says("analyze", "verbose"):
            start += 1
    if start == len(body) or not body[start].says("select", "with", "values"):
        raise not_a_read(body[start].value if start < len(body) else "", views)
    return body[start:]


class _Names:
    """What names may stand where, given what the database knows by them."""

    def __init__(self, views: Mapping[str, Sequence[str]], schema: str, known: Mapping[str, set[str]]) -> None:
        self._views, self._schema = views, schema
        self._relations = known.get("relation", set()) - views.keys()
        self._functions = known.get("function", set()) - FUNCTIONS
        self._of_a_row = known.get("of a row", set()) - FUNCTIONS
        self._types = known.get("type", set()) - TYPES - views.keys()
        never_called = known.get("keyword R", set()) | known.get("keyword C", set())
        keywords = never_called | known.get("keyword T", set())
        self._reserved, self._schemas = keywords - KEYWORDS, known.get("schema", set())
        self._callable = self._functions | self._types | keywords | known.get("keyword U", set())
        self._no_call = BEFORE_PARENTHESIS - (self._functions - never_called)

    def check(self, body: Sequence[Token]) -> None:
        padded = [_NOTHING, _NOTHING, *body, _NOTHING, _NOTHING]
        depth = 0
        for last_but_one, before, token, after, next_but_one in zip(*(padded[at:] for at in range(5)), strict=False):
            wrong = None
            depth += token.says("(") - token.says(")")
            if depth < 0:  # what runs around it would be closed
                raise wrong_sql("a parenthesis is closed that was not opened")
            if token.kind == "operator" and token.value not in OPERATORS:
                wrong = f"the operator {token.value}"
            elif token.names:
                wrong = (
                    self._as_keyword(token, after)
                    or self._as_call(token, after)
                    or self._as_schema(token, after, next_but_one)
                    or self._as_field(last_but_one, before, token)
                    or self._as_relation(before, token, after)
                    or self._as_type(before, token, after)
                )
            if wrong:
                raise not_allowed(wrong, self._views)

    def _as_keyword(self, token: Token, after: Token) -> str | None:
        if token.kind == "name":
            return None
        if token.value in WRITES or (token.value == "for" and after.says(*LOCKS)):
            return "anything but reading"
        return token.value.upper() if token.value in self._reserved else None

    def _as_call(self, token: Token, after: Token) -> str | None:
        if not after.says("(") or token.value in FUNCTIONS or token.says(*self._no_call):
            return None
        return f"the function {token.value}()" if token.value in self._callable else None

    def _as_schema(self, token: Token, after: Token, next_but_one: Token) -> str | None:
        if not after.says(".") or token.value not in self._schemas:
            return None
        if token.value == self._schema and next_but_one.names and next_but_one.value in self._views:
            return None
        return f"reading {token.value}.{next_but_one.value}"

    def _as_field(self, last_but_one: Token, before: Token, token: Token) -> str | None:
        functions = self._of_a_row if last_but_one.names else self._functions
        is_call = before.says(".") and token.value in functions
        return f"the function {token.value}()" if is_call else None

    def _as_relation(self, before: Token, token: Token, after: Token) -> str | None:
        may_be = before.says(*_BEFORE_RELATION) and not after.says(".")
        return f"reading {token.value}" if may_be and token.value in self._relations else None

    def _as_type(self, before: Token, token: Token, after: Token) -> str | None:
        may_be = after.kind == "string" or before.says(*_BEFORE_TYPE)
        return f"the type {token.value}" if may_be and token.value in self._types else None
