"""The model as the ledger has it at one revision, for who wants to look at it or take it away. Writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
from service.worker.loading import load
from service.worker.model_thread import ModelThread
from service.worker.resident import ResidentModel
from service.worker.restore import Restorer
from service.worker.scoped.resident import ScopedModel
from service.worker.scoped.restore import ScopedRestorer

Progress = Callable[[str, float], None]  # what is being done, and the share of it that is done


@dataclass(frozen=True, slots=True)
class ModelAtRevision:
    """A model with its edits.

    edits    those whose facts are in the weights, by id
    """

    loaded: LoadedModel
    served: ResidentModel | ScopedModel
    revision: Revision
    edits: tuple[EditRecord, ...]

    @property
    def resident(self) -> ResidentModel:
        """Of a model whose weights are edited."""
        assert isinstance(self.served, ResidentModel)
        return self.served

    @property
    def scoped(self) -> ScopedModel:
        """Of a model with scoped edits."""
        assert isinstance(self.served, ScopedModel)
        return self.served


async def model_at(settings: Settings, number: int | None, progress: Progress) -> ModelAtRevision:
    """number: None for the head.

    Raises NotExported when there is no such revision or no such model, and everything that `Restorer.draft_at` raises.
    """
    database, objects, thread = Database(create_engine(settings.database_url, "errata-export")), settings.objects, ModelThread()
    try:
        revision = await _revision(database, number)
        loaded = await thread.run(load, settings, lambda doing: progress(doing, 0.0))
        served = await _served(loaded, settings, thread, database, ObjectStore(objects), revision, progress)
        applied = await read.applied_at(database, revision.number)
        edits = await read.edits_by_id(database, sorted(applied))
        return ModelAtRevision(loaded, served, revision, tuple(edits[each] for each in sorted(edits)))
    except ProgrammingError as error:
        raise NotExported("this database has no ledger, or one of another version: `errata migrate` brings it up") from error
    except EditorError as error:
        raise NotExported(str(error)) from error
    finally:
        thread.close()
        await database.close()


async def _served(
    loaded: LoadedModel,
    settings: Settings,
    thread: ModelThread,
    database: Database,
    objects: ObjectStore,
    revision: Revision,
    progress: Progress,
) -> ResidentModel | ScopedModel:
    def told(doing: str) -> None:
        progress(doing, 0.5)

    if settings.edit_mode == "scoped":
        scoped = await thread.run(ScopedModel, loaded, settings)
        state = await ScopedRestorer(scoped, thread, database, objects, told, mends=False).state_at(revision)
        await thread.run(scoped.adopt, state, revision.number)
        return scoped
    resident = await thread.run(ResidentModel, loaded, settings)
    draft = await Restorer(resident, thread, database, objects, told, mends=False).draft_at(revision)
    await thread.run(resident.adopt, draft, revision.number, {})
    return resident


async def _revision(database: Database, number: int | None) -> Revision:
    newest = await list_revisions(database, limit=1)
    if not newest:
        raise NotExported("the ledger is empty: no worker has begun it yet")
    if number is None or number == newest[0].number:
        return newest[0]
    if found := [each for each in await list_revisions(database, before=number + 1, limit=1) if each.number == number]:
        return found[0]
    raise NotExported(f"there is no revision {number}; the ledger has 0 to {newest[0].number}", code="revision_not_found")
