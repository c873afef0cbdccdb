"""The program that the demo observes: a small shop's assistants, written as its developers would write them.

Only `hub.traced`, `hub.session` and `hub.emit` know of the hub. Each function returns how many calls it made.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import httpx
from openai import APIConnectionError, AsyncOpenAI, InternalServerError, OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel

import hub
from hub.demo import own_providers

QUESTIONS = (
    "Does the kettle K-2 switch itself off?",
    "Which teapot goes with it for four people?",
    "How long does delivery to Utrecht take?",
    "And may I return it when the colour is not what I thought?",
)
REVIEWS = (
    "Boils fast and looks lovely, but the lid is stiff.",
    "Arrived with a dent. Two mails and nobody answers!",
    "Third one I buy, as a present this time.",
    "It is a kettle. It boils water.",
)
ORDERS = {
    f"A-10{number}": {"status": "shipped" if number % 3 else "packed", "eta_days": number % 4}
    for number in range(30, 60)
}
SYSTEM = "You are the assistant of Kettle & Co, a shop for kitchenware. Be brief, be kind, promise nothing. "
RULES = " ".join(
    f"Rule {number}: what the customer says of article {number} is passed on unchanged." for number in range(56)
)


class CartAbandoned(hub.Event, type="shop:cart_abandoned"):
    """A customer left while the cart was full: an event of the shop's own, in the same log as its calls."""

    cart_id: str
    items: int
    value_cents: int
    idle_minutes: float


class Verdict(BaseModel):
    mood: Literal["happy", "neutral", "angry"]
    about: str
    needs_answer: bool


def support_chats(client: OpenAI, customers: range) -> int:
    """Four questions from each customer, four customers at a time, every second answer streamed."""
    with ThreadPoolExecutor(4) as pool:
        return sum(pool.map(lambda customer: _support_chat(client, customer), customers))


def _support_chat(client: OpenAI, customer: int) -> int:
    messages: list[ChatCompletionMessageParam] = [{"role": "system", "content": SYSTEM + RULES}]
    with hub.session(f"chat-{customer:03}", user_id=f"customer-{customer}", tags={"feature": "support"}):
        for turn, question in enumerate(QUESTIONS):
            messages.append({"role": "user", "content": f"{question} I am customer {customer}."})
            messages.append({"role": "assistant", "content": _answer(client, messages, stream=turn % 2 == 1)})
        if customer % 3 == 0:
            hub.emit(CartAbandoned(cart_id=f"cart-{customer}", items=2, value_cents=7990, idle_minutes=31.5))
    return len(QUESTIONS)


def _answer(client: OpenAI, messages: list[ChatCompletionMessageParam], *, stream: bool) -> str:
    if not stream:
        done = client.chat.completions.create(model="gpt-4o-mini", messages=messages, temperature=0.3)
        return done.choices[0].message.content or ""
    chunks = client.chat.completions.create(
        model="gpt-4o-mini", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def find_order(order_id: str) -> dict[str, Any]:
    return ORDERS.get(order_id, {"status": "unknown"})


def return_policy(order_id: str) -> dict[str, Any]:
    return {"order_id": order_id, "returnable": order_id in ORDERS, "days_left": 30}


TOOLS: dict[str, Callable[[str], dict[str, Any]]] = {"find_order": find_order, "return_policy": return_policy}


def _tool(name: str, about: str) -> ChatCompletionToolParam:
    parameters: dict[str, object] = {
        "type": "object",
        "properties": {"order_id": {"type": "string"}},
        "required": ["order_id"],
    }
    return {"type": "function", "function": {"name": name, "description": about, "parameters": parameters}}


async def order_agent(client: AsyncOpenAI, order_id: str) -> int:
    """Ask the model, run the tools it wants, tell it what they said, until it answers in words."""
    tools = [_tool("find_order", "Where an order is."), _tool("return_policy", "Whether an order may come back.")]
    messages: list[Any] = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": f"Where is my order {order_id}, and may I still send it back?"},
    ]
    async with hub.session(f"order-{order_id}", tags={"feature": "orders"}):
        for calls in range(1, 6):
            done = await client.chat.completions.create(model="gpt-4.1-mini", messages=messages, tools=tools)
            message = done.choices[0].message
            messages.append(message)
            if not message.tool_calls:
                return calls
            for wanted in message.tool_calls:
                if wanted.type == "function":
                    run, arguments = TOOLS[wanted.function.name], json.loads(wanted.function.arguments)
                    result = run(arguments["order_id"])
                    messages.append({"role": "tool", "tool_call_id": wanted.id, "content": json.dumps(result)})
    raise RuntimeError(f"the agent for {order_id} never came to an answer")


async def describe_article(client: AsyncOpenAI, article: int) -> int:
    """The Responses API, streamed for every second article."""
    with hub.session("catalogue", tags={"feature": "catalogue"}):
        ask = f"Describe article {article} in two sentences."
        if article % 2:
            await client.responses.create(model="gpt-5-mini", input=ask, instructions=SYSTEM)
        else:
            async for _event in await client.responses.create(model="gpt-5-mini", input=ask, stream=True):
                pass
    return 1


async def judge_review(client: AsyncOpenAI, number: int) -> int:
    """An answer in the shape of a class, by the SDK's own parse()."""
    review = f"Review {number}: {REVIEWS[number % len(REVIEWS)]}"
    with hub.session("reviews", tags={"feature": "reviews"}):
        await client.chat.completions.parse(
            model="gpt-5-nano", messages=[{"role": "user", "content": review}], response_format=Verdict
        )
    return 1


def index_articles(client: OpenAI, batches: range) -> int:
    with hub.session("search-index", tags={"feature": "search"}):
        for batch in batches:
            texts = [f"Article {batch * 10 + place}: a kettle of {place} litres." for place in range(10)]
            client.embeddings.create(model="text-embedding-3-small", input=texts)
    return len(batches)


def translate(base_url: str, articles: range) -> int:
    """A model of the shop's own, reached without any SDK: a plain function is traced as well."""
    with httpx.Client(base_url=base_url) as http, hub.session("translations", tags={"feature": "catalogue"}):

        @hub.traced(provider="in-house", model="kettle-7b")
        def ask(messages: list[dict[str, str]]) -> Any:
            return http.post("/chat/completions", json={"model": "kettle-7b", "messages": messages}).json()

        for article in articles:
            ask([{"role": "user", "content": f"Translate into Dutch: article {article}, a kettle."}])
    return len(articles)


def trouble(client: OpenAI) -> int:
    """What goes wrong on any ordinary day. The header asks the demo's server for it; nobody else would answer so."""

    def ask(question: str, wanted: str, **options: Any) -> Any:
        messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": question}]
        extra = {"x-demo": wanted}
        return client.chat.completions.create(model="gpt-4o-mini", messages=messages, extra_headers=extra, **options)

    with hub.session("night-report", user_id="ops", tags={"feature": "reports"}):
        ask("Sum up the complaints of today.", "fail=429 times=2 retry_ms=40")
        ask("Which articles came back?", "fail=500 times=1 retry_ms=30")
        with suppress(InternalServerError):
            ask("What did the carrier lose?", "fail=500 retry_ms=10")
        with suppress(APIConnectionError, httpx.HTTPError):  # which of them depends on the version of the SDK
            list(ask("Who waits for an answer?", "cut=6", stream=True))
        list(ask("What sold best?", "end_early=4", stream=True))
        # no stream_options: the wire carries no usage, so it stays unknown
        list(ask("What sold worst?", "latency=0.02", stream=True))
        with ask("What shall we do about it?", "delay=0.002", stream=True) as chunks:
            next(iter(chunks))  # and no more: the reader has seen enough
    return 7


async def impatience(client: AsyncOpenAI) -> int:
    with hub.session("night-report", user_id="ops", tags={"feature": "reports"}), suppress(TimeoutError):
        slow = client.chat.completions.create(
            model="gpt-4o-mini",
            messages=[{"role": "user", "content": "Think long."}],
            extra_headers={"x-demo": "latency=20"},
        )
        await asyncio.wait_for(slow, 0.1)
    return 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """What there is to do, by number."""

    customers: range
    orders: range
    articles: range
    reviews: range
    batches: range
    translations: range
    trouble: bool = False


MORNING = Shift(
    customers=range(10),
    orders=range(30, 40),
    articles=range(25),
    reviews=range(35),
    batches=range(14),
    translations=range(17),
)
EVENING = Shift(
    customers=range(10, 13),
    orders=range(40, 42),
    articles=range(25, 30),
    reviews=range(35, 40),
    batches=range(14, 16),
    translations=range(17, 20),
    trouble=True,
)


async def work(shift: Shift, client: OpenAI, base_url: str) -> int:
    """All of it side by side: tasks in this loop with the async client, threads with the other one."""
    room = asyncio.Semaphore(12)

    async def one(task: Awaitable[int]) -> int:
        async with room:
            return await task

    async with AsyncOpenAI(base_url=base_url, api_key="sk-demo") as plain:
        tracing = hub.traced(plain)
        tasks = [one(order_agent(tracing, f"A-10{number}")) for number in shift.orders]
        tasks += [one(describe_article(tracing, article)) for article in shift.articles]
        tasks += [one(judge_review(tracing, number)) for number in shift.reviews]
        threads = [
            asyncio.to_thread(support_chats, client, shift.customers),
            asyncio.to_thread(index_articles, client, shift.batches),
            asyncio.to_thread(translate, base_url, shift.translations),
        ]
        tasks.append(one(own_providers.three_contracts(base_url)))
        tasks.append(one(own_providers.opening_hours(base_url)))
        if shift.trouble:
            tasks.append(impatience(tracing))
            threads.append(asyncio.to_thread(trouble, client))
        return sum(await asyncio.gather(*tasks, *threads))


def a_day(base_url: str) -> int:
    """Everything the shop does in a day. Returns the number of calls."""
    with OpenAI(base_url=base_url, api_key="sk-demo") as plain:
        client = hub.traced(plain)
        return sum(asyncio.run(work(shift, client, base_url)) for shift in (MORNING, EVENING))
