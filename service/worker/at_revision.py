"""The model as the ledger has it at one revision, for who wants to look at it or take it away. Writes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import torch
from sqlalchemy.exc import ProgrammingError

from editor_core.errors import EditorError
from editor_core.loading import LoadedModel
from service.domain.edits import EditRecord, EditState
from service.domain.revisions import Revision
from service.errors import NotExported
from service.infra.objects import ObjectStore
from service.infra.postgres import Database, create_engine
from service.ledger.read import list_edits, list_revisions, revisions_after
from service.settings import Settings
from service.worker.model_thread import ModelThread
from service.worker.packing import unpack_owners
from service.worker.resident import NO_REVISION, ResidentModel, load
from service.worker.restore import follow_ledger

PAGE = 500
Progress = Callable[[str, float], None]  # what is being done, and the share of it that is done


@dataclass(frozen=True, slots=True)
class ModelAtRevision:
    """A model with its edits.

    edits    those whose facts are in the weights, by id
    owners   by module: (N,) int64, the id of the edit that each row of its updates, or each slot of its bank, belongs to
    """

    loaded: LoadedModel
    resident: ResidentModel
    revision: Revision
    edits: tuple[EditRecord, ...]
    owners: dict[str, torch.Tensor]


async def model_at(settings: Settings, number: int | None, progress: Progress) -> ModelAtRevision:
    """number: None for the head.

    Raises NotExported when there is no such revision or no such model, and everything that `follow_ledger` raises.
    """
    database, objects, thread = Database(create_engine(settings.database_url, "errata-export")), settings.objects, ModelThread()
    try:
        revision = await _revision(database, number)
        loaded = await thread.run(load, settings, lambda doing: progress(doing, 0.0))
        resident = await thread.run(ResidentModel, loaded, settings)

        def following(_: str) -> None:
            progress(f"applying the updates up to revision {revision.number}", resident.revision / max(revision.number, 1))

        store = ObjectStore(objects)
        await follow_ledger(resident, thread, database, store, following, until=revision.number)
        owners = await _owners(database, store, revision.number)
        return ModelAtRevision(loaded, resident, revision, await _edits(database, revision.number), owners)
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


async def _edits(database: Database, number: int) -> tuple[EditRecord, ...]:
    found: list[EditRecord] = []
    while page := await list_edits(database, after=found[-1].id if found else 0, limit=PAGE, state=EditState.APPLIED):
        found += page
    return tuple(each for each in found if each.revision is not None and each.revision <= number)


async def _owners(database: Database, objects: ObjectStore, number: int) -> dict[str, torch.Tensor]:
    """Rows are only ever added, revision by revision, so their owners are as well."""
    parts: dict[str, list[torch.Tensor]] = {}
    for revision in await revisions_after(database, NO_REVISION):
        if revision.update_object and revision.number <= number:
            data = await asyncio.to_thread(objects.get, revision.update_object)
            for name, owners in unpack_owners(data).items():
                parts.setdefault(name, []).append(owners)
    return {name: torch.cat(owners) for name, owners in parts.items()}
