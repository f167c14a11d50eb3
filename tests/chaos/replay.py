"""`python -m tests.chaos.replay`: teach everything in a ledger once more, from the base model, with none of its objects.

Succeeds only when weights and statistics of the head, or the records of all edits in force, come out bit for bit as the
ledger has them.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from service.bootstrap import build
from service.errors import ErrataError
from service.infra.objects import ObjectStore
from service.ledger import read
from service.settings import Settings
from service.worker.model_thread import ModelThread
from service.worker.modes import load_resident, restorer_for
from service.worker.scoped.restore import ScopedRestorer


async def replay(settings: Settings) -> str:
    """The fingerprint. Raises ErrataError when what comes out is something else."""
    resources, thread = build(settings, "replay"), ModelThread()
    with tempfile.TemporaryDirectory(prefix="errata-replay-") as nothing:
        try:
            resident = await thread.run(load_resident, settings, lambda message: None)
            restorer = restorer_for(resident, thread, resources.database, ObjectStore(Path(nothing)), lambda message: None)
            head = await read.head(resources.database)
            assert head is not None
            checkpoints = frozenset(await read.checkpoints(resources.database))
            if isinstance(restorer, ScopedRestorer):
                await restorer.state_at(head, passing_over=checkpoints)
            else:
                await restorer.draft_at(head, passing_over=checkpoints)
        finally:
            thread.close()
            await resources.close()
    return head.fingerprint


if __name__ == "__main__":
    try:
        sys.stdout.write(asyncio.run(replay(Settings())) + "\n")
    except ErrataError as error:
        sys.exit(error.detail)
