"""What the hub costs a program before it does anything: time to import, memory.

    python tests/benchmarks/bench_footprint.py [--quick] [--importtime]

Import: `import hub` in a fresh interpreter, files in the cache of the system, less the interpreter's own start-up.
Memory: an asyncio program that makes 1,000 calls, 100 at a time, through an httpx client to a server in another
process, with the hub (store and otlp sink on, after a flush) and without. Resident memory is read from
/proc/self/smaps; the spool's segments are mapped files, whose pages belong to the system's cache, and stand apart.
`--importtime` shows which modules take longest instead.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks.collector import running_collector
from tests.benchmarks.report import Figure, show_figures
from tests.benchmarks.workload import Conversations, interleaved, measured_alone

IMPORTS = {
    "import hub": "import hub",
    "pydantic": "import pydantic; pydantic.create_model('M', n=(int, ...))",
    "opentelemetry.sdk.trace": "import opentelemetry.sdk.trace",
    "sqlalchemy": "import sqlalchemy",
}
"""Ours, and others' to compare with."""
AT_ONCE = 100


def import_ms(statement: str) -> float:
    """Milliseconds of *statement* in a fresh interpreter."""
    timed = f"import time; start = time.perf_counter()\n{statement}\nprint((time.perf_counter() - start) * 1e3)"
    done = subprocess.run([sys.executable, "-c", timed], stdout=subprocess.PIPE, text=True, check=True, cwd=_ROOT)
    return float(done.stdout)


def longest_imports(count: int) -> list[str]:
    """The modules of `import hub` that take longest themselves, as `python -X importtime` tells."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import hub"],
        stderr=subprocess.PIPE,
        text=True,
        check=True,
        cwd=_ROOT,
    )
    rows = re.findall(r"^import time:\s+(\d+) \|\s+(\d+) \|\s+(\S+)", done.stderr, re.MULTILINE)
    rows.sort(key=lambda row: -int(row[0]))
    return [
        f"{int(own) / 1e3:8.1f} ms itself {int(all_) / 1e3:8.1f} with its own  {name}"
        for own, all_, name in rows[:count]
    ]


def resident() -> dict[str, float]:
    """MB of this process: anonymous memory and files of code, and, apart, the mapped segments of a spool."""
    total = mapped = 0
    inside = False
    with open("/proc/self/smaps") as maps:
        for line in maps:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                inside = ".seg" in line
            elif line.startswith("Rss:"):
                size = int(line.split()[1])
                total, mapped = total + size, mapped + size * inside
    return {"rss": (total - mapped) / 1024, "mapped": mapped / 1024}


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server of chat completions, of no more than this program asks."""
    body = json.dumps(Conversations(1).complete([])).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    try:
        while line := await reader.readuntil(b"\r\n\r\n"):
            found = re.search(rb"content-length: (\d+)", line.lower())
            await reader.readexactly(int(found[1]) if found else 0)
            writer.write(head + body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def serve() -> None:
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def running_server(stack: ExitStack) -> str:
    """Its URL; it ends with *stack*."""
    process = stack.enter_context(
        subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    )
    stack.callback(process.kill)
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def program(calls: int, url: str, traced: Any) -> None:
    """Makes the calls, `AT_ONCE` at a time."""
    import httpx

    async with httpx.AsyncClient(base_url=url, limits=httpx.Limits(max_connections=10)) as client:

        async def ask(messages: list[dict[str, Any]]) -> Any:
            return (await client.post("/v1/chat/completions", json={"messages": messages})).json()

        call = traced(ask)
        made = list(Conversations(calls).questions())
        for start in range(0, calls, AT_ONCE):
            await asyncio.gather(*map(call, made[start : start + AT_ONCE]))


def memory(case: str, calls: int) -> dict[str, float]:
    """One program, in this process."""
    with ExitStack() as stack:
        url = running_server(stack)
        if case == "bare":
            asyncio.run(program(calls, url, lambda call: call))
            return resident()
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = stack.enter_context(running_collector())
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        import hub

        hub.init(db_url=f"sqlite:///{folder}/bench.db", spool_dir=f"{folder}/spool", otel="export", project="bench")
        stack.callback(hub.shutdown)
        asyncio.run(program(calls, url, hub.traced(provider="openai", model="gpt-5-mini")))
        assert hub.flush(30) == 0
        return resident()


_ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="small numbers, for CI")
    options.add_argument("--importtime", action="store_true", help="the modules that take longest to import")
    options.add_argument("--memory", choices=("bare", "hub"), help="one program, in this process; prints JSON")
    options.add_argument("--calls", type=int, default=1000)
    options.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.serve:
        asyncio.run(serve())
    elif given.memory:
        print(json.dumps(memory(given.memory, given.calls)))
    elif given.importtime:
        print("\n".join(longest_imports(25)))
    else:
        tables(given.quick, 100 if given.quick else given.calls)


def tables(quick: bool, calls: int) -> None:
    imports = interleaved(1 if quick else 10, list(IMPORTS), lambda name: import_ms(IMPORTS[name]))
    show_figures(
        "Import, ms",
        [Figure(name, took, "<= 150" if name == "import hub" else "") for name, took in imports.items()],
    )
    runs = interleaved(
        1 if quick else 5,
        ("bare", "hub"),
        lambda case: measured_alone(__file__, "--memory", case, "--calls", str(calls)),
    )
    bare = statistics.median(run["rss"] for run in runs["bare"])
    show_figures(
        f"Resident memory after {calls:,} calls, MB",
        [
            Figure("the program alone", [run["rss"] for run in runs["bare"]], ""),
            Figure("added by the hub", [run["rss"] - bare for run in runs["hub"]], "<= 40"),
            Figure("mapped segments, apart", [run["mapped"] for run in runs["hub"]], ""),
        ],
    )


if __name__ == "__main__":
    main()
