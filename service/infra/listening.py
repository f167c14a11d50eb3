"""Tasks that run for as long as their process: whatever they raise, they begin again, and the log says why."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

import structlog
from redis.exceptions import RedisError

from service.errors import ErrataError

log = structlog.get_logger()
PAUSE_S = 0.5


async def keep_running(what: str, run: Callable[[], Awaitable[None]], pause_s: float = PAUSE_S) -> NoReturn:
    """Run it again whenever it ends or fails. Only cancelling ends it."""
    while True:
        try:
            await run()
        except (RedisError, ErrataError) as error:
            log.warning(f"{what} broken off, beginning again", detail=str(error))
        except Exception:
            log.exception(f"{what} broken off, beginning again")
        await asyncio.sleep(pause_s)
