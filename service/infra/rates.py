"""Rates of requests, counted in sliding windows that all api processes share. While Redis is away each counts for itself."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from limits import RateLimitItem
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service import metrics
from service.infra.keys import Keys

log = structlog.get_logger()
PATIENCE_S = 1.0  # for a Redis that is silent: a request is waiting
ALONE_FOR_S = 5.0  # until Redis is asked again


@dataclass(frozen=True, slots=True)
class Allowance:
    """Of the rate with the least left: `remaining` of `limit` requests, and seconds until there is more."""

    taken: bool
    limit: int
    remaining: int
    reset_s: int


class Rates:
    """Two windows a caller and rate, whatever the rate: what was counted in the one before fades out during the next."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        pool: Any = redis.connection_pool  # beside it the address is not used
        shared = RedisStorage("redis://", implementation="redispy", key_prefix=keys.rates, connection_pool=pool)
        self._shared = SlidingWindowCounterRateLimiter(shared)
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._alone, self._alone_until = False, 0.0

    async def take(self, rates: Sequence[RateLimitItem], *whom: str) -> Allowance:
        """One request out of each rate, up to the first that is used up. Never fails: Redis is not worth a request."""
        if time.monotonic() >= self._alone_until:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    allowance = await _take(self._shared, rates, whom)
            except (RedisError, TimeoutError) as error:
                self._alone_until = time.monotonic() + ALONE_FOR_S
                self._counts_alone(True, str(error) or "no answer")
            else:
                self._counts_alone(False, "")
                return allowance
        return await _take(self._own, rates, whom)

    def _counts_alone(self, alone: bool, why: str) -> None:
        metrics.RATES_NOT_SHARED.set(alone)
        if alone and not self._alone:
            log.warning("rates are counted by this process alone while Redis is away", detail=why)
        elif self._alone and not alone:
            log.info("rates are shared again")
        self._alone = alone


async def _take(limiter: SlidingWindowCounterRateLimiter, rates: Sequence[RateLimitItem], whom: Sequence[str]) -> Allowance:
    """The rates, of which there must be one, in their order."""
    found: list[Allowance] = []
    for rate in rates:
        taken = await limiter.hit(rate, *whom)
        stats = await limiter.get_window_stats(rate, *whom)
        reset_s = max(math.ceil(stats.reset_time - time.time()), 1)
        found.append(Allowance(taken, rate.amount, stats.remaining if taken else 0, reset_s))
        if not taken:
            break
    return min(found, key=lambda each: (each.taken, each.remaining))
