"""Connections to Postgres, and the unit of work: rolled back unless commit() was called."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
from psycopg.errors import ReadOnlySqlTransaction, UndefinedTable
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from service.errors import ErrataError, StorageUnavailable
from service.infra.repository import Repository

ANSWER_LIMIT_S = 20.0
CONNECT_TIMEOUT_S = 3


def driver_url(url: str) -> str:
    """Any Postgres URL, in the form that selects psycopg 3."""
    for prefix in ("postgresql+psycopg://", "postgresql://", "postgres://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url.removeprefix(prefix)
    raise ErrataError(f"DATABASE_URL must begin with postgresql://, not {url.split(':', 1)[0]}:", code="bad_setting")


def create_engine(url: str, application_name: str, answer_limit_s: float = ANSWER_LIMIT_S) -> AsyncEngine:
    """answer_limit_s: how long a statement may take; then the connection is given up, with an OperationalError."""
    engine = create_async_engine(
        driver_url(url),
        pool_size=10,
        max_overflow=10,
        pool_pre_ping=True,
        pool_timeout=10,
        hide_parameters=True,  # of a failing statement: they are what callers wrote
        connect_args={"application_name": application_name, "connect_timeout": CONNECT_TIMEOUT_S},
    )
    dialect: Any = engine.dialect
    for name in ("do_ping", "do_commit", "do_rollback", "do_execute", "do_executemany", "do_execute_no_params"):
        setattr(dialect, name, _limited(getattr(dialect, name), answer_limit_s))
    return engine


def _limited(function: Callable[..., Any], limit_s: float) -> Callable[..., Any]:
    """A dialect's function whose first argument is a connection or a cursor."""

    def limited(first: Any, *arguments: Any, **others: Any) -> Any:
        connection = getattr(first, "_adapt_connection", first)
        with _given_up_after(limit_s, connection.driver_connection):
            return function(first, *arguments, **others)

    return limited


@contextmanager
def _given_up_after(limit_s: float, connection: psycopg.AsyncConnection[Any]) -> Iterator[None]:
    """Close the socket under a server that is silent for so long: whoever waits for it then hears an error.

    Cancelling would not do: psycopg asks the server to cancel the statement and waits for its answer.
    """

    def give_up() -> None:
        with socket.socket(fileno=os.dup(connection.fileno())) as other_end:
            other_end.shutdown(socket.SHUT_RDWR)

    timer = asyncio.get_running_loop().call_later(limit_s, give_up)
    try:
        yield
    finally:
        timer.cancel()


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
        except (OperationalError, InterfaceError, TimeoutError, PoolTimeoutError) as error:
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
