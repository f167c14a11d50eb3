"""One batch, carried to its commit.

propose (on a draft, in steps between which the model serves) -> persist -> commit -> apply.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Protocol

import structlog

from editor_core.errors import EditorError, EncodingError
from service import failpoints, metrics
from service.bootstrap import Resources
from service.domain.edits import Batch, EditEvent, EditRecord, Failure, Outcome, UnrelatedAnswer, same_prompt
from service.domain.revisions import ModuleNorms, RevisionKind, StatisticsSummary
from service.errors import ErrataError, ObjectDamaged, ObjectsUnavailable
from service.infra.objects import ObjectStore
from service.ledger import batches, fact_owners, read
from service.ledger.commit import Effects, commit_revision
from service.ledger.lease import Lease
from service.worker.model_thread import ModelThread
from service.worker.proposing import Proposed, as_edit, by_name, code_of, propose
from service.worker.resident import Candidate, ResidentModel
from service.worker.shares import Shares

log = structlog.get_logger()
PASSES = 1  # over a batch


class BatchTimedOutError(EditorError):
    """Teaching a batch took longer than it may."""

    code = "batch_timed_out"


class Applying:
    """Applies batches. `on_revision` is called after each change of what is served."""

    def __init__(
        self,
        resident: ResidentModel,
        thread: ModelThread,
        resources: Resources,
        objects: ObjectStore,
        on_revision: Callable[[], None],
    ) -> None:
        self._resident, self._thread, self._objects = resident, thread, objects
        self._database, self._heads, self._on_revision = resources.database, resources.heads, on_revision
        self._settings = resources.settings
        self._shares = Shares(resident, resources.database, objects)
        self.under_way: set[int] = set()  # batches begun here: what this process can still name has not ended it

    async def apply(self, held: Lease, batch: Batch) -> None:
        """Carry a batch to its commit; one that cannot be applied as a whole is halved until the culprit is alone."""
        self.under_way.add(batch.id)
        await self._apply(held, batch)
        self.under_way.discard(batch.id)

    async def _apply(self, held: Lease, batch: Batch) -> None:
        failpoints.hit("writer.begun", [record.edit.prompt for record in batch.edits])
        left = await self._without_unencodable(held, batch)
        whole = await self._without_unreplaceable(held, left) if left is not None else None
        if whole is None:
            return
        try:
            await self._propose_and_commit(held, whole)
        except (ObjectDamaged, OSError) as error:  # no edit's own fault: it waits, and is taken again as it was
            raise ObjectsUnavailable(f"batch {whole.id} waits: {error}", retry_after_s=5) from error
        except ErrataError:
            raise
        except (EditorError, RuntimeError, ArithmeticError) as error:
            log.warning(
                "batch refused", batch=whole.id, edits=len(whole.edits), error=type(error).__name__, detail=str(error)[:500]
            )
            if len(whole.edits) == 1:
                await self._fail(held, whole, [Failure(whole.edits[0].id, code_of(error), str(error))])
                return
            for half in await batches.split(self._database, held, whole):
                await self.apply(held, await batches.begin(self._database, held, half))

    async def _without_unencodable(self, held: Lease, batch: Batch) -> Batch | None:
        failures = await self._thread.run(self._unencodable, batch)
        return await self._fail(held, batch, failures) if failures else batch

    async def _without_unreplaceable(self, held: Lease, batch: Batch) -> Batch | None:
        edits = {record.id: (record.edit.prompt, *record.edit.rephrases) for record in batch.edits}
        applied = await read.applied_with_prompts(self._database, [text for texts in edits.values() for text in texts])
        failures = await self._unreplaceable(same_prompts(batch.edits, applied))
        # a rephrase replaces nothing, and would answer what another key's fact does
        asking = {id: [old.id for old in applied if old.id != id and asks_one_of(old, texts)] for id, texts in edits.items()}
        failed = {each.edit_id for each in failures}
        failures += [each for each in await self._of_others(asking) if each.edit_id not in failed]
        return await self._fail(held, batch, failures) if failures else batch

    async def _unreplaceable(self, replacing: Mapping[int, Collection[int]]) -> list[Failure]:
        """Edits that may not take the place of those they would. replacing: by id, the ids of those."""
        failures = {
            id: Failure(id, "superseded", f"edit {max(olds)}, which was accepted later, answers the same question")
            for id, olds in replacing.items()
            if max(olds, default=0) > id
        }
        for each in await self._of_others(replacing):
            failures.setdefault(each.edit_id, each)
        return list(failures.values())

    async def _of_others(self, replacing: Mapping[int, Collection[int]]) -> list[Failure]:
        """Edits that are held to their own key's facts, and are not among them."""
        if self._settings.replaces != "own":
            return []
        foreign = await fact_owners.not_replaceable(self._database, replacing)
        return [Failure(id, "not_your_fact", "a fact of another key asks the same") for id in foreign]

    def _unencodable(self, batch: Batch) -> list[Failure]:
        failures = []
        for record in batch.edits:
            try:
                self._resident.text_editor.check(as_edit(record))
            except EncodingError as error:
                failures.append(Failure(record.id, "not_encodable", str(error)))
        return failures

    async def _fail(self, held: Lease, batch: Batch, failures: list[Failure]) -> Batch | None:
        left = await batches.fail(self._database, held, batch, failures)
        metrics.EDITS_APPLIED.labels("failed").inc(len(failures))
        return left

    async def _propose_and_commit(self, held: Lease, batch: Batch) -> None:
        began, self._thread.longest_stretch_s = time.perf_counter(), 0.0
        applied = await read.applied_with_prompts(self._database, [record.edit.prompt for record in batch.edits])
        parent = self._resident.editor.step
        proposed = await propose(self._resident, self._thread, batch.edits, applied, self._shares.of)
        failpoints.hit("writer.proposed", [record.edit.prompt for record in batch.edits])
        seconds, proposal = dict(proposed.seconds), proposed.outcome.proposal
        candidate = await self._thread.run(self._resident.prepare, proposed.change, proposal.statistics, proposal.norms, parent)
        with _timing(seconds, "persist"):
            objects = await persist(self._objects, candidate)
        failpoints.hit("writer.persisted", [record.edit.prompt for record in batch.edits])
        number = self._resident.revision + 1
        new = self._resident.new_revision(number, RevisionKind.EDIT, candidate, objects, PASSES)
        effects = Effects(ended=dict.fromkeys(proposed.replaced, EditEvent.SUPERSEDED))
        with _timing(seconds, "commit"):
            await commit_revision(self._database, held, new, batch=batch, outcomes=_outcomes(proposed), effects=effects)
        with _timing(seconds, "apply"):
            pause_s = await self._thread.change(self._resident.adopt, candidate.draft, number, candidate.updates)
        failpoints.hit("writer.applied")
        self._on_revision()
        await self._heads.publish(number)
        failpoints.hit("writer.published")
        _record(proposed, candidate, seconds, pause_s, self._thread.longest_stretch_s)
        log.info(
            "batch applied",
            batch=batch.id,
            revision=number,
            edits=len(batch.edits),
            superseded=len(proposed.replaced),
            seconds=round(time.perf_counter() - began, 2),
            fingerprint=candidate.fingerprint[:16],
        )


def same_prompts(records: Sequence[EditRecord], applied: Sequence[EditRecord]) -> dict[int, list[int]]:
    """By id of an edit: those of the same prompt that are in force."""
    found: dict[int, list[int]] = {}
    for record in records:
        asked = same_prompt(record.edit.prompt)
        found[record.id] = [old.id for old in applied if same_prompt(old.edit.prompt) == asked]
    return found


def asks_one_of(record: EditRecord, texts: Sequence[str]) -> bool:
    """Whether an edit's prompt is one of these."""
    return same_prompt(record.edit.prompt) in {same_prompt(each) for each in texts}


async def persist(objects: ObjectStore, candidate: Candidate) -> tuple[str | None, str]:
    """Store a candidate's update, if it has one, and its statistics; returns their names."""
    stored = await asyncio.to_thread(objects.put, candidate.update) if candidate.update else None
    return stored, await asyncio.to_thread(objects.put, candidate.statistics)


def _outcomes(proposed: Proposed) -> list[Outcome]:
    found = []
    outcome = proposed.outcome
    for index, record in enumerate(proposed.edits):
        unrelated = tuple(
            UnrelatedAnswer(each.prompt, each.format, each.before, each.after, each.changed)
            for each in outcome.side_effects[index]
        )
        found.append(
            Outcome(
                record.id,
                by_name(outcome.before[index]),
                by_name(outcome.after[index]),
                by_name(outcome.holds[index]),
                unrelated,
                proposed.tokens[record.id],
            )
        )
    return found


@contextlib.contextmanager
def _timing(seconds: dict[str, float], phase: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - began


def _record(
    proposed: Proposed, candidate: Candidate, seconds: dict[str, float], pause_s: float, longest_stretch_s: float
) -> None:
    outcome = proposed.outcome
    metrics.EDIT_BATCH_SIZE.observe(len(proposed.edits))
    metrics.EDIT_PASSES.observe(PASSES)
    metrics.EDIT_PAUSE_SECONDS.observe(pause_s)
    metrics.EDIT_STRETCH_SECONDS.set(longest_stretch_s)
    for phase, took_s in seconds.items():
        metrics.EDIT_BATCH_SECONDS.labels(phase).observe(took_s)
    for held in outcome.holds:
        metrics.EDITS_APPLIED.labels("holds" if all(held.values()) else "does_not_hold").inc()
    record_state(candidate)


class Measured(Protocol):
    """What a candidate of either mode knows of its weights and statistics."""

    @property
    def norms(self) -> Mapping[str, ModuleNorms]: ...

    @property
    def summaries(self) -> Sequence[StatisticsSummary]: ...


def record_state(candidate: Measured) -> None:
    """What is known of the weights and the statistics at a new revision."""
    for layer, norms in candidate.norms.items():
        metrics.UPDATE_NORM.labels(layer).set(norms.update_norm)
        metrics.WEIGHT_DISTANCE.labels(layer).set(norms.distance)
        if norms.cosine is not None:
            metrics.UPDATE_COSINE.labels(layer).set(norms.cosine)
    for each in candidate.summaries:
        metrics.STATISTICS_SAMPLES.labels(f"{each.d_in}x{each.d_out}").set(each.n)
        metrics.STATISTICS_DRIFT.labels(f"{each.d_in}x{each.d_out}").set(each.drift)
