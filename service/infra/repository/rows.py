"""What the parts of the repository share: one connection, in one transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeVar

from psycopg import AsyncConnection as Driver
from sqlalchemy import Executable
from sqlalchemy.ext.asyncio import AsyncConnection

from service.infra.silence import LIMIT, each_within

Part = TypeVar("Part")


class Rows:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def _changed(self, statement: Executable) -> int:
        """How many rows an UPDATE or DELETE was about."""
        result: Any = await self._connection.execute(statement)
        count: int = result.rowcount
        return count

    async def _driver(self) -> Driver[Any]:
        """The connection below SQLAlchemy's, in the same transaction."""
        raw = await self._connection.get_raw_connection()
        assert raw.driver_connection is not None
        found: Driver[Any] = raw.driver_connection
        return found

    @property
    def _answer_limit_s(self) -> float:
        connection = self._connection.sync_connection
        assert connection is not None
        limit_s: float = connection.get_execution_options()[LIMIT]
        return limit_s

    async def _each(self, parts: AsyncIterator[Part]) -> AsyncIterator[Part]:
        """The parts of a long answer. Raises an OperationalError when the server is silent instead."""
        async for part in each_within(self._answer_limit_s, await self._driver(), parts):
            yield part
