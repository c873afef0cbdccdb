"""What keeps faults of ours, and of functions that the program gave us, away from the program."""

from __future__ import annotations

import logging
import sys
from typing import Any


class _HarmlessLog(logging.LoggerAdapter[logging.Logger]):
    """A handler or filter of the program's that raises ends neither a call nor a thread of ours."""

    def log(self, level: int, msg: object, *args: Any, **more: Any) -> None:
        try:
            super().log(level, msg, *args, stacklevel=2, **more)
        except Exception:
            pass


log = _HarmlessLog(logging.getLogger("hub"))


def is_harmless(error: BaseException) -> bool:
    """Whether *error*, raised by a function that the program gave us, is to stay here.

    A cancellation is one: nothing was awaited, so it tells of a future of the function's own, not of its caller. The
    other exceptions that are no `Exception` are on their way to the program, out of a signal handler for instance.
    """
    asyncio = sys.modules.get("asyncio.exceptions")
    return isinstance(error, Exception) or (asyncio is not None and isinstance(error, asyncio.CancelledError))
