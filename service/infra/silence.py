"""A server that is there and says nothing is given up: whoever waits for it hears an error after a limit."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg

LIMIT = "answer_limit_s"  # the execution option that says how long a connection's answers may take
Part = TypeVar("Part")


@contextmanager
def given_up_after(limit_s: float, connection: psycopg.AsyncConnection[Any]) -> Iterator[None]:
    """Close the socket under a server that is silent for so long: what waits for it then raises an OperationalError.

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


async def each_within(
    limit_s: float, connection: psycopg.AsyncConnection[Any], parts: AsyncIterator[Part]
) -> AsyncIterator[Part]:
    """The parts of a long answer, of which none may take longer."""
    while True:
        with given_up_after(limit_s, connection):
            try:
                part = await anext(parts)
            except StopAsyncIteration:
                return
        yield part


def limited(function: Callable[..., Any], limit_s: float) -> Callable[..., Any]:
    """A dialect's function whose first argument is a connection or a cursor."""

    def within(first: Any, *arguments: Any, **others: Any) -> Any:
        connection = getattr(first, "_adapt_connection", first)
        with given_up_after(limit_s, connection.driver_connection):
            return function(first, *arguments, **others)

    return within
