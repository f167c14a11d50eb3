"""What goes wrong, and when: drawn from a seed."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter

import psutil

from tests.chaos.system import WORKERS, System

DISK = "disk"
DOWN_S = 2.0  # at most, of a part that was killed
HOW_OFTEN = {"worker-1": 3, "worker-2": 3, "api": 1, "postgres": 2, "valkey": 2, DISK: 2}
PAUSED_LEASES = (1.2, 2.5)  # how long a part is stopped, in lease times
LOOK_S = 0.2


class Faults:
    """Kills and stops parts of a system, each part by one fault at a time; `counts` says how often."""

    def __init__(self, system: System, chance: random.Random, lease_ttl_s: float, between_s: float) -> None:
        """between_s: on average, from one fault to the next; they overlap."""
        self.counts: Counter[str] = Counter()
        self._system, self._chance = system, chance
        self._lease_ttl_s, self._between_s = lease_ttl_s, between_s
        self._free = {part: asyncio.Lock() for part in HOW_OFTEN}
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Begin no other fault; those under way end as planned."""
        self._stopping.set()

    async def run(self) -> None:
        """Until told to stop; returns when every part runs."""
        async with asyncio.TaskGroup() as under_way:
            while not self._stopping.is_set():
                await asyncio.sleep(self._chance.expovariate(1 / self._between_s))
                [part] = self._chance.choices(list(HOW_OFTEN), list(HOW_OFTEN.values()))
                if not self._free[part].locked() and not self._stopping.is_set():
                    under_way.create_task(self._one(part))

    async def keep(self) -> None:
        """Start processes again that ended by themselves or at a failpoint, until cancelled."""
        while True:
            for part in (*WORKERS, "api"):
                code = self._system.ended(part)
                if code is not None and not self._free[part].locked():
                    async with self._free[part]:
                        name = "died at an arrow" if code == -signal.SIGKILL else f"ended by itself with {code}"
                        self.counts[f"{_kind(part)} {name}"] += 1
                        await self._system.revive(part, arrows=not self._stopping.is_set())
            await asyncio.sleep(LOOK_S)

    async def _one(self, part: str) -> None:
        async with self._free[part]:
            if part == DISK:
                await self._fill()
            elif self._chance.random() < 0.5:
                await self._pause(part)
            else:
                await self._kill(part)

    async def _pause(self, part: str) -> None:
        self.counts[f"{_kind(part)} stopped past the lease"] += 1
        self._system.signal(part, signal.SIGSTOP)
        await asyncio.sleep(self._lease_ttl_s * self._chance.uniform(*PAUSED_LEASES))
        self._system.signal(part, signal.SIGCONT)

    async def _fill(self) -> None:
        """No worker that runs now can write a byte to any file, its log among them."""
        self.counts["disk full"] += 1
        self._system.limit_files(0)
        await asyncio.sleep(self._lease_ttl_s * self._chance.uniform(*PAUSED_LEASES))
        self._system.limit_files(psutil.RLIM_INFINITY)

    async def _kill(self, part: str) -> None:
        whole, wiped = self._chance.random() < 0.5, part == "valkey" and self._chance.random() < 0.5
        self.counts[f"{_kind(part)} killed{', data wiped' if wiped else ''}"] += 1
        self._system.signal(part, signal.SIGKILL, whole)
        await asyncio.sleep(self._chance.uniform(0, DOWN_S))
        if wiped:
            self._system.wipe_valkey()
        await self._system.revive(part, arrows=not self._stopping.is_set())


def _kind(part: str) -> str:
    return part.partition("-")[0]
