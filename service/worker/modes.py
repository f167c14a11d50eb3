"""The two ways in which a worker edits: scoped edits, each in force by itself, or whole matrices as published (paper)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from service.bootstrap import Resources
from service.infra.objects import ObjectStore
from service.infra.postgres import Database
from service.settings import Settings
from service.worker.applying import Applying
from service.worker.model_thread import ModelThread
from service.worker.resident import ResidentModel
from service.worker.restore import Restorer
from service.worker.scoped.applying import ScopedApplying
from service.worker.scoped.resident import ScopedModel
from service.worker.scoped.restore import ScopedRestorer
from service.worker.scoped.taking_back import ScopedTakingBack
from service.worker.taking_back import TakingBack

Resident = ResidentModel | ScopedModel
AnyRestorer = Restorer | ScopedRestorer
Progress = Callable[[str], None]


def load_resident(settings: Settings, progress: Progress) -> Resident:
    """Raises ModelLoadError, or an EditorError when the configured modules are not in the model."""
    kind: Any = ScopedModel if settings.edit_mode == "scoped" else ResidentModel
    found: Resident = kind.load(settings, progress)
    return found


def restorer_for(
    resident: Resident,
    thread: ModelThread,
    database: Database,
    objects: ObjectStore,
    progress: Progress = lambda message: None,
    *,
    mends: bool = True,
) -> AnyRestorer:
    if isinstance(resident, ScopedModel):
        return ScopedRestorer(resident, thread, database, objects, progress, mends=mends)
    return Restorer(resident, thread, database, objects, progress, mends=mends)


def applying_for(
    resident: Resident, thread: ModelThread, resources: Resources, objects: ObjectStore, on_revision: Callable[[], None]
) -> Applying:
    kind: Any = ScopedApplying if isinstance(resident, ScopedModel) else Applying
    found: Applying = kind(resident, thread, resources, objects, on_revision)
    return found


def taking_back_for(
    resident: Resident,
    thread: ModelThread,
    resources: Resources,
    objects: ObjectStore,
    progress: Progress,
    on_revision: Callable[[], None],
) -> TakingBack:
    kind: Any = ScopedTakingBack if isinstance(resident, ScopedModel) else TakingBack
    found: TakingBack = kind(resident, thread, resources, objects, progress, on_revision)
    return found
