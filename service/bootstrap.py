"""One place that builds what every process needs from the settings."""

from __future__ import annotations

from dataclasses import dataclass

from redis.asyncio import Redis

from service.errors import ErrataError
from service.infra.keys import Keys
from service.infra.objects import ObjectStore
from service.infra.postgres import Database, create_engine
from service.infra.rates import Rates
from service.infra.streams import Doorbell, GenerationChannel, HeadChannel, Presence, RevokedChannel, connect
from service.settings import Settings


@dataclass(frozen=True, slots=True)
class Resources:
    """Connections of one process; close them with `close`."""

    settings: Settings
    database: Database
    redis: Redis
    doorbell: Doorbell
    generation: GenerationChannel
    presence: Presence
    heads: HeadChannel
    revoked: RevokedChannel
    rates: Rates

    def objects(self) -> ObjectStore:
        return ObjectStore(self.settings.objects)

    async def close(self) -> None:
        await self.redis.aclose()
        await self.database.close()


def build(settings: Settings, process: str) -> Resources:
    """Raises ErrataError when no database or Redis is named."""
    if not settings.database_url or not settings.redis_url:
        raise ErrataError(
            "DATABASE_URL and REDIS_URL are not set; set both, or let `errata up` start embedded servers", code="not_configured"
        )
    redis, keys = connect(settings.redis_url), Keys(settings.redis_prefix)
    return Resources(
        settings=settings,
        database=Database(create_engine(settings.database_url, f"errata-{process}")),
        redis=redis,
        doorbell=Doorbell(redis, keys),
        generation=GenerationChannel(redis, keys),
        presence=Presence(redis, keys),
        heads=HeadChannel(redis, keys),
        revoked=RevokedChannel(redis, keys),
        rates=Rates(redis, keys),
    )
