"""The model as the ledger has it at one revision, for who wants to look at it or take it away. Writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from sqlalchemy.exc import ProgrammingError

from editor_core.errors import EditorError
from editor_core.loading import LoadedModel
from service.domain.edits import EditRecord
from service.domain.revisions import Revision
from service.errors import NotExported
from service.infra.objects import ObjectStore
from service.infra.postgres import Database, create_engine
from service.ledger import read
from service.ledger.read import list_revisions
from service.settings import Settings
from service.worker.model_thread import ModelThread
from service.worker.resident import ResidentModel, load
from service.worker.restore import Restorer

Progress = Callable[[str, float], None]  # what is being done, and the share of it that is done


@dataclass(frozen=True, slots=True)
class ModelAtRevision:
    """A model with its edits.

    edits    those whose facts are in the weights, by id
    """

    loaded: LoadedModel
    resident: ResidentModel
    revision: Revision
    edits: tuple[EditRecord, ...]

    @property
    def owners(self) -> dict[str, torch.Tensor]:
        """By bank: (slots,) int64, the id of the edit that each slot belongs to."""
        return self.resident.editor.masters.owners


async def model_at(settings: Settings, number: int | None, progress: Progress) -> ModelAtRevision:
    """number: None for the head.

    Raises NotExported when there is no such revision or no such model, and everything that `Restorer.draft_at` raises.
    """
    database, objects, thread = Database(create_engine(settings.database_url, "errata-export")), settings.objects, ModelThread()
    try:
        revision = await _revision(database, number)
        loaded = await thread.run(load, settings, lambda doing: progress(doing, 0.0))
        resident = await thread.run(ResidentModel, loaded, settings)

        restorer = Restorer(resident, thread, database, ObjectStore(objects), lambda doing: progress(doing, 0.5), mends=False)
        draft = await restorer.draft_at(revision)
        await thread.run(resident.adopt, draft, revision.number, {})
        applied = await read.applied_at(database, revision.number)
        edits = await read.edits_by_id(database, sorted(applied))
        return ModelAtRevision(loaded, resident, revision, tuple(edits[each] for each in sorted(edits)))
    except ProgrammingError as error:
        raise NotExported("this database has no ledger, or one of another version: `errata migrate` brings it up") from error
    except EditorError as error:
        raise NotExported(str(error)) from error
    finally:
        thread.close()
        await database.close()


async def _revision(database: Database, number: int | None) -> Revision:
    newest = await list_revisions(database, limit=1)
    if not newest:
        raise NotExported("the ledger is empty: no worker has begun it yet")
    if number is None or number == newest[0].number:
        return newest[0]
    if found := [each for each in await list_revisions(database, before=number + 1, limit=1) if each.number == number]:
        return found[0]
    raise NotExported(f"there is no revision {number}; the ledger has 0 to {newest[0].number}", code="revision_not_found")
