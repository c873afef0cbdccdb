"""What every event store promises. A backend's tests inherit from `StoreContract`, or, in SQL, from `SqlStoreContract`,
and supply `open_store`."""

from __future__ import annotations

from tests.contracts.case import Store
from tests.contracts.erasure import ErasureContract
from tests.contracts.log import LogContract
from tests.contracts.sharing import SharingContract
from tests.contracts.sql import SqlContract


class StoreContract(LogContract, ErasureContract, SharingContract):
    """Of all stores."""


class SqlStoreContract(SqlContract, StoreContract):
    """Of those in SQL."""


__all__ = ["SqlStoreContract", "Store", "StoreContract"]
