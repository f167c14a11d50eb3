from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from service_processes import Service

from tests.conftest import MODELS, Servers, tiny_environment

Start = Callable[..., Service]


@pytest.fixture
def new_service(servers: Servers, tmp_path: Path) -> Iterator[Start]:
    """Makes services, each with a database, Redis keys and a folder of its own; not started yet."""
    made: list[Service] = []

    def make(**environment: str) -> Service:
        made.append(service_of(servers, tmp_path, **environment))
        return made[-1]

    yield make
    for service in made:
        service.stop()


@pytest.fixture
def new_tiny_service(new_service: Start, tiny_folder: Path) -> Start:
    """The same with a random model of 64 dimensions: quick, and as real as the other to everything but a reader."""
    return lambda **environment: new_service(**{**tiny_environment(tiny_folder), **environment})


def tiny_service(servers: Servers, tiny_folder: Path, parent: Path, **environment: str) -> Service:
    """One that several tests share; whoever makes it stops it."""
    return service_of(servers, parent, **{**tiny_environment(tiny_folder), **environment})


def service_of(servers: Servers, parent: Path, **environment: str) -> Service:
    folder = parent / uuid.uuid4().hex[:8]
    folder.mkdir()
    own = {
        "DATABASE_URL": servers.new_database(),
        "REDIS_URL": servers.redis_url,
        "ERRATA_REDIS_PREFIX": f"test-{uuid.uuid4().hex[:12]}",
        "ERRATA_DATA_DIR": str(folder),
        "ERRATA_MODEL_CACHE_DIR": str(MODELS.resolve()),  # the unpacked model and what it usually reads, made once
        "ERRATA_LEASE_TTL_S": "2",
        "ERRATA_SWEEP_INTERVAL_S": "0.5",
        "ERRATA_GENERATE_TIMEOUT_S": "280",
    }
    return Service({**own, **environment}, folder)
