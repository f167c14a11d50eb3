"""Connections to Postgres, and the unit of work: rolled back unless commit() was called."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg.errors import ReadOnlySqlTransaction, UndefinedTable
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from service.errors import ErrataError, StorageUnavailable
from service.infra.repository import Repository
from service.infra.silence import LIMIT, limited

ANSWER_LIMIT_S = 20.0
CONNECT_TIMEOUT_S = 3
IDLE_LIMIT_S = 60  # between two statements of a transaction


def driver_url(url: str) -> str:
    """Any Postgres URL, in the form that selects psycopg 3."""
    for prefix in ("postgresql+psycopg://", "postgresql://", "postgres://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url.removeprefix(prefix)
    raise ErrataError(f"DATABASE_URL must begin with postgresql://, not {url.split(':', 1)[0]}:", code="bad_setting")


def create_engine(url: str, application_name: str, answer_limit_s: float = ANSWER_LIMIT_S) -> AsyncEngine:
    """answer_limit_s: how long a statement, or a part of a long answer, may take; then the connection is given up, with an
    OperationalError."""
    engine = create_async_engine(
        driver_url(url),
        pool_size=10,
        max_overflow=10,
        pool_pre_ping=True,
        pool_timeout=10,
        hide_parameters=True,  # of a failing statement: they are what callers wrote
        connect_args={"application_name": application_name, "connect_timeout": CONNECT_TIMEOUT_S},
        execution_options={LIMIT: answer_limit_s},
    )
    dialect: Any = engine.dialect
    for name in ("do_ping", "do_commit", "do_rollback", "do_execute", "do_executemany", "do_execute_no_params"):
        setattr(dialect, name, limited(getattr(dialect, name), answer_limit_s))
    _ends_dead_transactions(engine)
    return engine


def _ends_dead_transactions(engine: AsyncEngine) -> None:
    """Have the server end a transaction whose client does nothing, with its locks: it was stopped, or its host is gone."""

    @event.listens_for(engine.sync_engine, "connect")
    def set_limits(connection: Any, record: object) -> None:
        cursor = connection.cursor()
        engine.dialect.do_execute(cursor, f"SET idle_in_transaction_session_timeout = '{IDLE_LIMIT_S}s'", ())
        cursor.close()
        engine.dialect.do_commit(connection)


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
        except (OperationalError, InterfaceError, psycopg.OperationalError, TimeoutError, PoolTimeoutError) as error:
            raise StorageUnavailable(f"Postgres: {_first_line(error)}", retry_after_s=2) from error
        except DBAPIError as error:
            if isinstance(error.orig, UndefinedTable):
                raise StorageUnavailable(
                    "Postgres has no tables of ours yet; `errata migrate` makes them", retry_after_s=5
                ) from error
            if error.connection_invalidated or isinstance(error.orig, ReadOnlySqlTransaction):
                raise StorageUnavailable(f"Postgres: {_first_line(error)}", retry_after_s=2) from error
            raise

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[UnitOfWork]:
        """Several questions to one state of the ledger, which meanwhile goes on."""
        async with self.transaction() as work:
            await work.repository.freeze()
            yield work

    async def answers(self) -> None:
        """Whether the server takes a new connection, within seconds. Raises StorageUnavailable."""
        url = self._engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        try:
            connection = await psycopg.AsyncConnection.connect(url, connect_timeout=CONNECT_TIMEOUT_S)
        except psycopg.Error as error:
            raise StorageUnavailable(f"Postgres: {_first_line(error)}", retry_after_s=2) from error
        await connection.close()

    async def close(self) -> None:
        await self._engine.dispose()


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
