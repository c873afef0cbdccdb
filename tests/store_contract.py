"""What every event store promises. A backend's tests inherit from `StoreContract`, or, in SQL, from `SqlStoreContract`,
and supply `open_store`."""

from __future__ import annotations

from tests.contracts.case import Store
from tests.contracts.erasure import ErasureContract
from tests.contracts.log import LogContract


class StoreContract(LogContract, ErasureContract):
    """Of all stores."""


__all__ = ["Store", "StoreContract"]
