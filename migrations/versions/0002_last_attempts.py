"""The last attempt of a call of several providers has a row of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    op.add_column("hub_attempts", sa.Column("is_last", sa.SmallInteger()))  # null for attempts that others followed
