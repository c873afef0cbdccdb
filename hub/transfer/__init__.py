"""Events from store to store by way of files, and calls that another program recorded."""

from __future__ import annotations
