from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from service.bootstrap import Resources, build
from service.ledger import lease
from service.ledger.lease import Lease
from service.settings import Settings


@pytest.fixture
async def resources(settings: Settings) -> AsyncIterator[Resources]:
    built = build(settings, "test")
    yield built
    await built.close()


@pytest.fixture
async def held(resources: Resources) -> Lease:
    """A writer lease with a long life."""
    acquired = await lease.acquire(resources.database, "test-writer", 60)
    assert acquired is not None
    return acquired
