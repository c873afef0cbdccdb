"""`hub collect`: takes spans that other programs send, and keeps the calls that they tell of."""

from __future__ import annotations

import signal
import threading
from typing import Annotated

import typer

from hub.cli.guard import say
from hub.cli.opening import settings_for
from hub.cli.options import Db


def collect(
    db: Db = None,
    host: Annotated[str, typer.Option("--host", help="Where to listen; beyond this machine only with a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="0 picks one.")] = 4318,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            envvar="HUB_COLLECT_TOKEN",
            show_envvar=True,
            help="What senders have to show.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Receive OpenTelemetry traces over HTTP and keep the calls that they tell of, until it is stopped.

    Spans of the gen_ai conventions, of OpenInference and of Traceloop become calls as if they had been traced here;
    other spans are kept to be shown around them.
    """
    from hub.polite import no_rest
    from hub.received.intake import Intake
    from hub.received.server import Receiver
    from storage import open_store

    settings = settings_for(db)
    store = open_store(settings.db_url, prices=settings.price_list, rest=no_rest)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        store.checkpoint("collect")  # what keeps it from being written to is told now
        receiver = Receiver(Intake(store, settings), host=host, port=port, token=token)
        receiver.start()
        try:
            say(f"hub: OTEL_EXPORTER_OTLP_ENDPOINT={receiver.endpoint} sends traces to {settings.shown_db_url}")
            stopped.wait()
        finally:
            receiver.close()
    finally:
        store.close()
    say(f"hub: {receiver.taken:,} spans were taken")
