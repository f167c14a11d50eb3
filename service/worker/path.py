"""Which revisions' changes make up the state of a revision: back from it to the base model, past what was rolled back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing

from service.domain.revisions import Revision, RevisionKind
from service.errors import LedgerConflict
from service.infra.postgres import Database

PAGE = 100


async def rests_on(database: Database, number: int, checkpoints: Collection[int]) -> bool:
    """Whether the state of a revision can be had from an earlier one of these, when nothing is kept from before the oldest."""
    async with aclosing(back_from(database, number)) as revisions:
        async for revision in revisions:
            if revision.number < min(checkpoints):
                return False
            if revision.number != number and revision.number in checkpoints:
                return True
    return False


async def back_from(database: Database, number: int) -> AsyncGenerator[Revision]:
    """Revisions whose states lead to that of `number`, newest first, the base last; read a page at a time.

    After a rollback comes the revision whose state it is. Raises LedgerConflict where the ledger has a gap.
    """
    page: dict[int, Revision] = {}
    while True:
        if number not in page:
            async with database.transaction() as work:
                page = {each.number: each for each in await work.repository.list_revisions(before=number + 1, limit=PAGE)}
        if number not in page:
            raise LedgerConflict(f"the ledger has no revision {number}")
        revision = page[number]
        yield revision
        if revision.kind is RevisionKind.BASE:
            return
        number = revision.number - 1 if revision.source is None else revision.source
