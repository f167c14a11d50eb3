"""`errata verify` on the weights: what the objects give is what the ledger says, bit for bit. Changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from service.bootstrap import Resources
from service.errors import ErrataError
from service.ledger import read
from service.ledger.verify import Check
from service.worker.model_thread import ModelThread
from service.worker.modes import AnyRestorer, load_resident, restorer_for
from service.worker.path import rests_on
from service.worker.scoped.restore import ScopedRestorer


async def weight_checks(resources: Resources, progress: Callable[[str], None], deep: bool) -> AsyncIterator[Check]:
    """The head's fingerprint; deep: that of every checkpoint, by itself and from the one before it. Raises ModelLoadError."""
    database = resources.database
    head = await read.head(database)
    if head is None:
        yield Check("fingerprint", "the ledger has no revision yet")
        return
    thread = ModelThread()
    try:
        resident = await thread.run(load_resident, resources.settings, progress)
        restorer = restorer_for(resident, thread, database, resources.objects(), progress, mends=False)
        yield await _check(restorer, head.number, resources, "fingerprint of the head", ())
        known = sorted(await read.checkpoints(database))
        is_pruned = head.number > resources.settings.rollback_window
        for number in known if deep else ():
            yield await _check(restorer, number, resources, f"fingerprint of checkpoint {number}", ())
            if is_pruned and not await rests_on(database, number, known):
                continue
            yield await _check(
                restorer, number, resources, f"fingerprint of revision {number} from the one before it", (number,)
            )
    finally:
        thread.close()


async def _check(restorer: AnyRestorer, number: int, resources: Resources, name: str, passing_over: tuple[int, ...]) -> Check:
    revision = await read.get_revision(resources.database, number)
    try:
        if isinstance(restorer, ScopedRestorer):
            await restorer.state_at(revision, frozenset(passing_over))
        else:
            await restorer.draft_at(revision, passing_over)
    except ErrataError as error:
        return Check(name, "", [error.detail])
    return Check(name, f"revision {number}: {revision.fingerprint[:16]}…, rebuilt from the objects")
