"""Connections to Postgres, and the unit of work: rolled back unless commit() was called."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg.errors import UndefinedTable
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from service.errors import ErrataError, StorageUnavailable
from service.infra.repository import Repository


def driver_url(url: str) -> str:
    """Any Postgres URL, in the form that selects psycopg 3."""
    for prefix in ("postgresql+psycopg://", "postgresql://", "postgres://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url.removeprefix(prefix)
    raise ErrataError(f"DATABASE_URL must begin with postgresql://, not {url.split(':', 1)[0]}:", code="bad_setting")


def create_engine(url: str, application_name: str) -> AsyncEngine:
    return create_async_engine(
        driver_url(url),
        pool_size=10,
        max_overflow=10,
        pool_pre_ping=True,
        pool_timeout=10,
        hide_parameters=True,  # of a failing statement: they are what callers wrote
        connect_args={"application_name": application_name, "connect_timeout": 5},
    )


class UnitOfWork:
    """One transaction with the repository over it."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.repository = Repository(connection)

    async def commit(self) -> None:
        await self._connection.commit()


class Database:
    """Hands out units of work; a lost connection becomes StorageUnavailable."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[UnitOfWork]:
        try:
            async with self._engine.connect() as connection:
                yield UnitOfWork(connection)  # leaving without commit() rolls back
        except (OperationalError, InterfaceError, TimeoutError) as error:
            raise StorageUnavailable(f"Postgres: {_first_line(error)}", retry_after_s=2) from error
        except DBAPIError as error:
            if isinstance(error.orig, UndefinedTable):
                raise StorageUnavailable(
                    "Postgres has no tables of ours yet; `errata migrate` makes them", retry_after_s=5
                ) from error
            if error.connection_invalidated:
                raise StorageUnavailable(f"Postgres: {_first_line(error)}", retry_after_s=2) from error
            raise

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[UnitOfWork]:
        """Several questions to one state of the ledger, which meanwhile goes on."""
        async with self.transaction() as work:
            await work.repository.freeze()
            yield work

    async def close(self) -> None:
        await self._engine.dispose()


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
