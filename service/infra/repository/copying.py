"""Whole tables, out and in again: what a backup is made of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack

from psycopg import sql
from sqlalchemy import text

from service.infra.repository.rows import Rows
from service.infra.silence import given_up_after
from service.infra.tables import ledger_identity, metadata

TABLES = tuple(table.name for table in metadata.sorted_tables if table is not ledger_identity)  # each after those it refers to
KEPT_ROWS = ("writer_lease",)  # tables that have a row in an empty database


class CopyRows(Rows):
    async def schema_version(self) -> str | None:
        """Alembic's; None of a database without tables."""
        there = await self._connection.execute(text("SELECT to_regclass('alembic_version') IS NOT NULL"))
        if not there.scalar_one():
            return None
        version: str | None = (await self._connection.execute(text("SELECT version_num FROM alembic_version"))).scalar()
        return version

    async def copy_out(self, table: str) -> AsyncIterator[bytes]:
        """The rows in COPY's text format, with the columns in the order of `columns`."""
        statement = sql.SQL("COPY {} ({}) TO STDOUT").format(sql.Identifier(table), _columns(columns(table)))
        driver = await self._driver()
        async with AsyncExitStack() as stack:
            cursor = await stack.enter_async_context(driver.cursor())
            with given_up_after(self._answer_limit_s, driver):
                rows = await stack.enter_async_context(cursor.copy(statement))
            async for part in self._each(aiter(rows)):
                yield bytes(part)

    async def copy_in(self, table: str, named: Iterable[str], parts: Iterable[bytes]) -> int:
        """How many rows there were. Raises whatever Postgres has against them."""
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), _columns(named))
        driver = await self._driver()
        async with driver.cursor() as cursor:
            async with cursor.copy(statement) as rows:  # its end checks every reference, however long that takes
                for part in parts:
                    with given_up_after(self._answer_limit_s, driver):
                        await rows.write(part)
            return cursor.rowcount

    async def close_to_others(self) -> None:
        """Until this transaction ends nobody else writes."""
        await self._connection.execute(text(f"LOCK TABLE {', '.join(TABLES)} IN EXCLUSIVE MODE"))

    async def rows_in(self, table: str) -> int:
        count: int = (await self._connection.execute(text(f"SELECT count(*) FROM {_known(table)}"))).scalar_one()
        return count

    async def clear_lease(self) -> None:
        """Make way for the row of the lease that is to be restored."""
        await self._connection.execute(text("DELETE FROM writer_lease"))

    async def end_lease(self) -> None:
        """Nobody holds it; the next epoch is greater than all that were."""
        await self._connection.execute(text("UPDATE writer_lease SET expires_at = now()"))

    async def continue_numbers(self) -> None:
        """The next id of each table is one more than its greatest."""
        for table in metadata.sorted_tables:
            for column in table.columns:
                if column.identity is not None:
                    statement = f"""
                        SELECT setval(pg_get_serial_sequence('{table.name}', '{column.name}'), max({column.name}))
                        FROM {table.name} HAVING max({column.name}) IS NOT NULL
                    """
                    await self._connection.execute(text(statement))


def columns(table: str) -> list[str]:
    return [column.name for column in metadata.tables[table].columns]


def _known(table: str) -> str:
    """Names go into SQL only when they are ours."""
    return metadata.tables[table].name


def _columns(named: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(name) for name in named)
