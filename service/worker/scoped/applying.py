"""One batch of scoped edits, carried to its commit: teach and judge, persist, commit, exchange."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import structlog

from editor_core.errors import EncodingError
from editor_core.scoped.editor import Learned, LearningRun
from editor_core.scoped.entry import Entry
from editor_core.scoped.in_force import EditsInForce
from editor_core.statistics import Statistics
from service import failpoints, metrics
from service.bootstrap import Resources
from service.domain.edits import Batch, EditEvent, EditRecord, Failure, Outcome, RephraseAnswer, UnrelatedAnswer
from service.domain.revisions import RevisionKind
from service.errors import ObjectDamaged
from service.infra.objects import ObjectStore
from service.ledger import batches, read
from service.ledger.commit import Effects, commit_revision
from service.ledger.lease import Lease
from service.worker.applying import Applying, BatchTimedOutError, record_state, same_prompts
from service.worker.model_thread import ModelThread
from service.worker.proposing import as_edit
from service.worker.scoped.resident import ScopedCandidate, ScopedModel
from service.worker.scoped.restore import ScopedRestorer
from service.worker.scoped.state import ScopedState

log = structlog.get_logger()
DOES_NOT_HOLD = "does_not_hold"


class ScopedApplying(Applying):
    """Applies batches to a model with scoped edits."""

    _resident: Any  # a ScopedModel

    def __init__(
        self,
        resident: ScopedModel,
        thread: ModelThread,
        resources: Resources,
        objects: ObjectStore,
        on_revision: Callable[[], None],
    ) -> None:
        super().__init__(cast(Any, resident), thread, resources, objects, on_revision)
        self._restorer = ScopedRestorer(resident, thread, resources.database, objects)

    def _unencodable(self, batch: Batch) -> list[Failure]:
        failures = []
        for record in batch.edits:
            try:
                self._resident.editor.check(as_edit(record))
            except EncodingError as error:
                failures.append(Failure(record.id, "not_encodable", str(error)))
        return failures

    async def _asks_twice(self, batch: Batch) -> bool:
        """Whether two edits of a batch answer one question about one subject: the later one is to replace the other."""
        seen = EditsInForce()
        for record in batch.edits:
            address = await self._thread.run(self._resident.editor.address, as_edit(record))
            if seen.same_question(address):
                return True
            seen = seen.changed({record.id: Entry.of(f"{record.id:064x}", address)})
        return False

    async def _propose_and_commit(self, held: Lease, batch: Batch) -> None:
        if len(batch.edits) > 1 and await self._asks_twice(batch):
            for half in await batches.split(self._database, held, batch):
                await self.apply(held, await batches.begin(self._database, held, half))
            return
        prompts = [record.edit.prompt for record in batch.edits]
        began, self._thread.longest_stretch_s = time.perf_counter(), 0.0
        taught = await self._taught(batch.edits)
        failpoints.hit("writer.proposed", prompts)
        if not taught.learned:  # no statistics to come
            await self._fail(held, batch, [replace(each, tokens=None) for each in taught.failures])
            return
        names = await _persisted(self._objects, taught.learned)
        candidate = await self._thread.run(self._resident.candidate, self._state(taught, names), taught.learned)
        statistics = await asyncio.to_thread(self._objects.put, candidate.statistics)
        failpoints.hit("writer.persisted", prompts)
        pause_s = await self._commit(held, batch, taught, names, candidate, statistics)
        _record(taught, candidate, pause_s, self._thread.longest_stretch_s)
        log.info(
            "batch applied",
            batch=batch.id,
            revision=self._resident.revision,
            edits=len(taught.learned),
            refused=len(taught.failures),
            superseded=len(taught.replaced),
            passes=taught.passes,
            seconds=round(time.perf_counter() - began, 2),
            fingerprint=candidate.fingerprint[:16],
        )

    async def _taught(self, records: Sequence[EditRecord]) -> _Taught:
        resident = self._resident
        applied = await read.applied_with_prompts(self._database, [record.edit.prompt for record in records])
        replacing = same_prompts(records, applied)
        run, seconds = await self._run(records, tuple(sorted({old for each in replacing.values() for old in each})))
        learned = {record.id: each for record, each in zip(records, run.learned, strict=True)}
        unheld = {id for id, each in learned.items() if resident.editor.policy.requires_holding and not each.is_held}
        failures = [Failure(id, DOES_NOT_HOLD, said_instead(learned[id])) for id in sorted(unheld)]
        failures += await self._unreplaceable({id: each.replaced for id, each in learned.items() if id not in unheld})
        refused = {each.edit_id for each in failures}
        left = {id: each for id, each in learned.items() if id not in refused}
        return _Taught(
            left,
            [replace(each, tokens=learned[each.edit_id].tokens) for each in failures],
            sorted({old for id, each in left.items() for old in (*replacing[id], *each.replaced)}),
            run.statistics,
            seconds,
        )

    async def _run(self, records: Sequence[EditRecord], replaced: tuple[int, ...]) -> tuple[LearningRun, dict[str, float]]:
        """(what was taught and judged, seconds by phase). Records of others in force that are damaged are made again."""
        resident, mended = self._resident, set[str | None]()
        while True:
            run = await self._thread.run(
                resident.editor.run, [(record.id, as_edit(record)) for record in records], resident.served.state
            )
            run.replaced = replaced
            seconds: dict[str, float] = {}
            try:
                async for phase, took_s in self._thread.each(run.steps):
                    seconds[phase] = seconds.get(phase, 0.0) + took_s
                    self._check_time(sum(seconds.values()))
                return run, seconds
            except ObjectDamaged as error:
                if error.object in mended:
                    raise
                mended.add(error.object)
                await self._restorer.mend(error, resident.served.state)

    def _check_time(self, took_s: float) -> None:
        if took_s > self._settings.batch_limit_s:
            raise BatchTimedOutError(f"teaching took more than {self._settings.batch_limit_s:.0f} s (ERRATA_BATCH_LIMIT_S)")

    def _state(self, taught: _Taught, names: Mapping[int, str]) -> ScopedState:
        """What is to be served."""
        entries = {id: Entry.of(names[id], each.record.address) for id, each in taught.learned.items()}
        edits = self._resident.served.state.changed({**dict.fromkeys(taught.replaced), **entries})
        assert taught.statistics is not None
        return ScopedState(edits, taught.statistics)

    async def _commit(
        self, held: Lease, batch: Batch, taught: _Taught, names: Mapping[int, str], candidate: ScopedCandidate, statistics: str
    ) -> float:
        """Serve it when it is committed; returns the seconds of the exchange."""
        number = self._resident.revision + 1
        await commit_revision(
            self._database,
            held,
            self._resident.new_revision(number, RevisionKind.EDIT, candidate, statistics, taught.passes),
            batch=replace(batch, edits=tuple(record for record in batch.edits if record.id in taught.learned)),
            outcomes=[outcome_of(id, each, names[id]) for id, each in taught.learned.items()],
            refused=taught.failures,
            effects=Effects(ended=dict.fromkeys(taught.replaced, EditEvent.SUPERSEDED)),
        )
        metrics.EDITS_APPLIED.labels("failed").inc(len(taught.failures))
        pause_s: float = await self._thread.exchange(self._resident.adopt, candidate.state, number)
        failpoints.hit("writer.applied")
        self._on_revision()
        await self._heads.publish(number)
        failpoints.hit("writer.published")
        return pause_s


@dataclass(frozen=True, slots=True)
class _Taught:
    """A batch, taught and judged, not committed.

    learned     by id of the edits that hold
    failures    the others
    replaced    ids of edits in force that those that hold take the place of
    statistics  with what all of the batch have shown
    seconds     by phase
    """

    learned: dict[int, Learned]
    failures: list[Failure]
    replaced: list[int]
    statistics: Statistics | None
    seconds: dict[str, float]

    @property
    def passes(self) -> int:
        return max((each.taught.passes for each in self.learned.values()), default=0)


async def _persisted(objects: ObjectStore, learned: Mapping[int, Learned]) -> dict[int, str]:
    """Store every edit's record; their names."""
    records = {edit_id: each.record.to_bytes() for edit_id, each in learned.items()}
    names = await asyncio.gather(*(asyncio.to_thread(objects.put, data) for data in records.values()))
    return dict(zip(records, names, strict=True))


def outcome_of(edit_id: int, learned: Learned, record: str) -> Outcome:
    return Outcome(
        edit_id,
        {str(format): text for format, text in learned.before.items()},
        {str(format): text for format, text in learned.after.items()},
        {str(format): held for format, held in learned.holds.items()},
        tuple(UnrelatedAnswer(each.prompt, each.format, each.before, each.after, each.changed) for each in learned.unrelated),
        learned.tokens,
        scope=learned.record.address.names,
        rephrases=tuple(RephraseAnswer(prompt, format, answer, held) for prompt, format, answer, held in learned.rephrases),
        record_object=record,
    )


def said_instead(learned: Learned) -> str:
    wrong = ", ".join(
        f"in {format} format {text[:200]!r}" for format, text in learned.after.items() if not learned.holds[format]
    )
    return f"the model would not learn it: asked again it says {wrong}"


def _record(taught: _Taught, candidate: ScopedCandidate, pause_s: float, longest_stretch_s: float) -> None:
    metrics.EDIT_BATCH_SIZE.observe(len(taught.learned))
    metrics.EDIT_PAUSE_SECONDS.observe(pause_s)
    metrics.EDIT_STRETCH_SECONDS.set(longest_stretch_s)
    for phase, took_s in taught.seconds.items():
        metrics.EDIT_BATCH_SECONDS.labels(phase).observe(took_s)
    for each in taught.learned.values():
        metrics.EDIT_PASSES.observe(each.taught.passes)
        metrics.EDITS_APPLIED.labels("holds" if each.is_held else "does_not_hold").inc()
    record_state(candidate)
