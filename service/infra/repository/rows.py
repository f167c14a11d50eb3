"""What the parts of the repository share: one connection, in one transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Executable
from sqlalchemy.ext.asyncio import AsyncConnection


class Rows:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def _changed(self, statement: Executable) -> int:
        """How many rows an UPDATE or DELETE was about."""
        result: Any = await self._connection.execute(statement)
        count: int = result.rowcount
        return count
