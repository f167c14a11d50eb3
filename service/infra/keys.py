"""Every Redis key. Nothing in Redis is the truth: all of it may vanish at any time and only latency is lost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """Redis names of one installation, all under one prefix."""

    prefix: str

    @property
    def doorbell(self) -> str:
        """Stream. api -> writer: edits were accepted, look into the ledger."""
        return f"{self.prefix}:doorbell"

    @property
    def generate(self) -> str:
        """Stream. api -> any worker: GenerateRequest."""
        return f"{self.prefix}:generate"

    def replies(self, api_id: str) -> str:
        """Stream. Workers -> one api process: GenerateReply. Expires when the api stops refreshing it."""
        return f"{self.prefix}:replies:{api_id}"

    @property
    def cancelled(self) -> str:
        """Pub/sub channel. api -> all workers: the id of a question whose asker has gone."""
        return f"{self.prefix}:cancelled"

    @property
    def head(self) -> str:
        """Pub/sub channel. writer -> everybody: the newest committed revision's number."""
        return f"{self.prefix}:head"

    @property
    def revoked(self) -> str:
        """Pub/sub channel. cli -> all apis: the id of an API key that has been revoked."""
        return f"{self.prefix}:revoked"

    @property
    def rates(self) -> str:
        """Prefix of strings with a time to live: how many requests a caller has made."""
        return f"{self.prefix}:rates"

    @property
    def workers(self) -> str:
        """Set of names of workers that have said how they are; `worker` tells whether they still do."""
        return f"{self.prefix}:workers"

    def worker(self, name: str) -> str:
        """String with a time to live: WorkerStatus."""
        return f"{self.prefix}:worker:{name}"


WRITERS = "writers"  # consumer group of the doorbell
WORKERS = "workers"  # consumer group of the generation stream
