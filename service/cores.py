"""How many threads a process's products should have, and how they wait: to be said before torch is imported."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, MutableMapping
from pathlib import Path, PurePosixPath

SYSTEM = Path("/")
# Threads of a product wait for each other by spinning. Where another process wants their cores, that takes its time from both.
# Two processes with the products of a 135M model, on two shared cores: 3,600 ms a step, 300 with at most 2,000 turns, 140 with
# none; one alone 1,550, 160 and 130.
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}  # libgomp, which torch brings on Linux, and libomp
WAITING = (*PASSIVE, "GOMP_SPINCOUNT")
THREADS = "OMP_NUM_THREADS"


def use_cores_sparingly(environment: MutableMapping[str, str]) -> None:
    """Passive waiting, and as many threads as there are cores for this process. What the user has set goes before."""
    if not any(name in environment for name in WAITING):
        environment.update(PASSIVE)
    environment.setdefault(THREADS, str(usable_cores()))


def usable_cores(system: Path = SYSTEM, affinity: Iterable[int] | None = None) -> int:
    """Cores that this process may run on, hyperthreads not counted, and no more than its CPU quota, rounded; at least 1."""
    cpus = set(_affinity() if affinity is None else affinity)
    cores = {_siblings(system, cpu) for cpu in cpus}
    limits = [len(cores), *(int(quota + 0.5) for quota in _quotas(system))]
    return max(min(limits), 1)


def _affinity() -> Iterable[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return range(os.cpu_count() or 1)  # macOS has no affinity


def _siblings(system: Path, cpu: int) -> str:
    """The hyperthreads that share this one's core; where that is not known, it has a core of its own."""
    found = _text(system / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    return found or str(cpu)


def _quotas(system: Path) -> Iterator[float]:
    """Cores' worth of time, of this process's control group and all above it."""
    for line in _text(system / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            roots = ("sys/fs/cgroup", "sys/fs/cgroup/unified")
        elif "cpu" in controllers.split(","):
            roots = (f"sys/fs/cgroup/{controllers}", "sys/fs/cgroup/cpu")
        else:
            continue
        for folder in (PurePosixPath(path), *PurePosixPath(path).parents):
            for root in roots:
                yield from _quota(system / root / folder.relative_to("/"))


def _quota(folder: Path) -> Iterator[float]:
    """Version 2 has it in one file, version 1 in two."""
    found = _text(folder / "cpu.max").split() or [
        _text(folder / "cpu.cfs_quota_us"),
        _text(folder / "cpu.cfs_period_us"),
    ]
    if len(found) == 2 and all(each.isdigit() for each in found) and int(found[1]):  # "max" and "-1": no limit
        yield int(found[0]) / int(found[1])


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
