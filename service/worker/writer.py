"""The writer: holds the lease, takes batches from the ledger, and carries each to its commit.

claim -> propose (on a draft, in steps between which the model serves) -> persist -> commit -> apply.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import TypeVar

import structlog
from redis.exceptions import RedisError

from editor_core.errors import EditorError, EncodingError
from editor_core.text_editor import BatchProposal
from editor_core.texts import Edit, Format
from service import metrics
from service.bootstrap import Resources
from service.domain.edits import Batch, EditRecord, Failure, Outcome, UnrelatedAnswer
from service.domain.revisions import RevisionKind
from service.errors import ErrataError, LeaseLost, StorageUnavailable
from service.infra.objects import ObjectStore
from service.ledger import batches, lease, read
from service.ledger.commit import commit_revision
from service.ledger.lease import Lease
from service.worker.engine import Engine
from service.worker.model_thread import ModelThread
from service.worker.resident import Candidate, ResidentModel
from service.worker.restore import follow_ledger
from service.worker.warmup import begin_ledger, warm_up

log = structlog.get_logger()
BELL_BLOCK_MS = 1000
T = TypeVar("T")


class Writer:
    """Writes for as long as it holds the lease; otherwise waits for it. `on_revision` is called after each change."""

    def __init__(
        self,
        name: str,
        resident: ResidentModel,
        thread: ModelThread,
        resources: Resources,
        objects: ObjectStore,
        progress: Callable[[str], None],
        on_revision: Callable[[], None],
        engine: Engine,
    ) -> None:
        self.name = name
        self.lease: Lease | None = None
        self._resident, self._thread, self._objects = resident, thread, objects
        self._resources, self._database, self._settings = resources, resources.database, resources.settings
        self._progress, self._on_revision, self._engine = progress, on_revision, engine
        self._bell = asyncio.Event()
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """Finish the batch under way, take no other."""
        self._draining.set()
        self._bell.set()

    async def run(self) -> None:
        """Until drained. A lost lease or an unreachable store is survived; a damaged ledger is not."""
        listening = asyncio.create_task(self._listen())
        try:
            while not self._draining.is_set():
                try:
                    await self._take_a_turn()
                except LeaseLost as error:
                    log.warning("lease lost", detail=error.detail)
                except StorageUnavailable as error:
                    log.warning("store unavailable", detail=error.detail)
                    await self._pause(1.0)
        finally:
            listening.cancel()

    async def _take_a_turn(self) -> None:
        """One spell of writing: from getting the lease to losing it or being drained."""
        held = await lease.acquire(self._database, self.name, self._settings.lease_ttl_s)
        if held is None:
            await self._follow()
            await self._pause(self._settings.lease_ttl_s / 5)
            return
        log.info("lease acquired", epoch=held.epoch)
        async with self._renewing(held):
            await self._follow()
            await begin_ledger(self._resident, self._thread, self._database, held)
            await warm_up(self._resident, self._thread, self._database, self._objects, held, self._settings, self._progress)
            self._on_revision()
            for interrupted in await batches.take_over_interrupted(self._database, held, self._settings.max_attempts):
                log.info("interrupted batch taken again", batch=interrupted.id, edits=len(interrupted.edits))
                await self._apply_batch(held, interrupted)
            while not self._draining.is_set():
                if batch := await self._next_batch(held):
                    await self._apply_batch(held, batch)

    async def _follow(self) -> None:
        await follow_ledger(self._resident, self._thread, self._database, self._objects, self._progress)
        self._on_revision()

    @contextlib.asynccontextmanager
    async def _renewing(self, held: Lease) -> AsyncIterator[None]:
        """Keep the lease while the block runs, and give it back at the end."""
        self.lease = held
        metrics.LEASE_HELD.set(1)
        renewing = asyncio.create_task(self._renew(held))
        try:
            yield
        finally:
            renewing.cancel()
            self.lease = None
            metrics.LEASE_HELD.set(0)
            with contextlib.suppress(StorageUnavailable):
                await lease.release(self._database, held)

    async def _renew(self, held: Lease) -> None:
        while True:
            await asyncio.sleep(held.ttl_s / 4)
            try:
                await lease.renew(self._database, held)
            except StorageUnavailable as error:
                log.warning("lease not renewed", detail=error.detail)
            except LeaseLost:
                self._bell.set()  # the writer notices at its next transaction
                return

    async def _next_batch(self, held: Lease) -> Batch | None:
        """Claim when a batch is full or the oldest edit has waited long enough; else wait for the bell or the sweep."""
        count, age_s = await read.accepted_summary(self._database)
        if count >= self._settings.batch_size or (count and age_s >= self._settings.batch_linger_s):
            return await batches.claim(self._database, held, self._settings.batch_size)
        wait_s = max(self._settings.batch_linger_s - age_s, 0.01) if count else self._settings.sweep_interval_s
        await self._pause(wait_s)
        if not count:
            await lease.renew(self._database, held)  # find out that the lease was lost even when there is nothing to do
        return None

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._bell.wait(), seconds)
        if not self._draining.is_set():
            self._bell.clear()

    async def _listen(self) -> None:
        """Hear the doorbell. What it says does not matter: the ledger alone decides what is queued."""
        doorbell = self._resources.doorbell.listener(self.name)
        while True:
            try:
                rings = await doorbell.read(count=100, block_ms=BELL_BLOCK_MS)
                if rings:
                    self._bell.set()
                    await doorbell.done(*(entry for entry, _ in rings))
            except RedisError:
                await asyncio.sleep(1.0)  # the sweep goes on meanwhile

    # --- one batch -----------------------------------------------------------------------------------------------

    async def _apply_batch(self, held: Lease, batch: Batch) -> None:
        """Carry a batch to its commit; one that cannot be applied as a whole is halved until the culprit is alone."""
        whole = await self._without_unencodable(held, batch)
        if whole is None:
            return
        try:
            await self._propose_and_commit(held, whole)
        except ErrataError:
            raise
        except (EditorError, RuntimeError, ArithmeticError) as error:
            log.warning(
                "batch refused", batch=whole.id, edits=len(whole.edits), error=type(error).__name__, detail=str(error)[:500]
            )
            if len(whole.edits) == 1:
                await self._fail(held, whole, [Failure(whole.edits[0].id, _code(error), str(error))])
                return
            for half in await batches.split(self._database, held, whole):
                await self._apply_batch(held, half)

    async def _without_unencodable(self, held: Lease, batch: Batch) -> Batch | None:
        failures = []
        for record in batch.edits:
            try:
                await self._thread.run(self._resident.text_editor.check, _as_edit(record))
            except EncodingError as error:
                failures.append(Failure(record.id, "not_encodable", str(error)))
        return await self._fail(held, batch, failures) if failures else batch

    async def _fail(self, held: Lease, batch: Batch, failures: list[Failure]) -> Batch | None:
        left = await batches.fail(self._database, held, batch, failures)
        metrics.EDITS_APPLIED.labels("failed").inc(len(failures))
        return left

    async def _propose_and_commit(self, held: Lease, batch: Batch) -> None:
        seconds: dict[str, float] = defaultdict(float)
        began = time.perf_counter()
        proposed = await self._propose(batch, seconds)
        left = await self._without_refused(held, batch, proposed)
        if left is None:
            return
        candidate = await self._thread.run(self._resident.prepare, proposed.proposal, [record.id for record in batch.edits])
        stored, statistics = await self._persist(candidate, seconds)
        number = self._resident.revision + 1
        new = self._resident.new_revision(number, RevisionKind.EDIT, candidate, (stored, statistics), proposed.passes)
        with _timing(seconds, "commit"):
            await commit_revision(self._database, held, new, batch=left, outcomes=_outcomes(batch, proposed))
        async with self._engine.window():
            with _timing(seconds, "apply"):
                pause_s = await self._thread.run(self._resident.adopt, candidate, number)
        self._on_revision()
        await self._resources.heads.publish(number)
        _record(batch, proposed, candidate, seconds, pause_s)
        log.info(
            "batch applied",
            batch=batch.id,
            revision=number,
            edits=len(left.edits),
            refused=len(proposed.refused),
            passes=proposed.passes,
            seconds=round(time.perf_counter() - began, 2),
            fingerprint=candidate.fingerprint[:16],
        )

    async def _without_refused(self, held: Lease, batch: Batch, proposed: BatchProposal) -> Batch | None:
        """Fail the edits that the model does not answer with after all rounds, each with what it says instead."""
        failures = [
            Failure(batch.edits[index].id, "does_not_hold", _said_instead(proposed.after[index], proposed.holds[index]))
            for index in proposed.refused
        ]
        return await self._fail(held, batch, failures) if failures else batch

    async def _propose(self, batch: Batch, seconds: dict[str, float]) -> BatchProposal:
        edits = [_as_edit(record) for record in batch.edits]
        run = await self._thread.run(self._resident.text_editor.run, edits)
        async for phase, took_s in self._thread.each(run.steps, after=self._engine.turn):
            seconds[phase] += took_s
        assert run.outcome is not None
        return run.outcome

    async def _persist(self, candidate: Candidate, seconds: dict[str, float]) -> tuple[str | None, str]:
        with _timing(seconds, "persist"):
            stored = await asyncio.to_thread(self._objects.put, candidate.updates) if candidate.updates else None
            return stored, await asyncio.to_thread(self._objects.put, candidate.statistics)


def _as_edit(record: EditRecord) -> Edit:
    return Edit(record.edit.prompt, record.edit.target, tuple(record.edit.rephrases), tuple(record.edit.unrelated))


def _said_instead(answers: Mapping[Format, str], holds: Mapping[Format, bool]) -> str:
    wrong = ", ".join(f"in {format} format {answers[format][:200]!r}" for format in answers if not holds[format])
    return f"the model would not learn it: asked again it says {wrong}"


def _code(error: BaseException) -> str:
    """NonFiniteUpdateError -> non_finite_update."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__.removesuffix("Error")).lower() or "error"


def _outcomes(batch: Batch, proposed: BatchProposal) -> list[Outcome]:
    return [
        Outcome(record.id, _by_name(before), _by_name(after), _by_name(held), _unrelated(proposed, index))
        for index, (record, before, after, held) in enumerate(
            zip(batch.edits, proposed.before, proposed.after, proposed.holds, strict=True)
        )
        if index not in proposed.refused
    ]


def _unrelated(proposed: BatchProposal, index: int) -> tuple[UnrelatedAnswer, ...]:
    return tuple(
        UnrelatedAnswer(each.prompt, each.format, each.before, each.after, each.changed)
        for each in proposed.side_effects[index]
    )


def _by_name(values: Mapping[Format, T]) -> dict[str, T]:
    return {str(format): value for format, value in values.items()}


@contextlib.contextmanager
def _timing(seconds: dict[str, float], phase: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[phase] += time.perf_counter() - began


def _record(batch: Batch, proposed: BatchProposal, candidate: Candidate, seconds: dict[str, float], pause_s: float) -> None:
    metrics.EDIT_BATCH_SIZE.observe(len(batch.edits))
    metrics.EDIT_PASSES.observe(proposed.passes)
    metrics.EDIT_PAUSE_SECONDS.observe(pause_s)
    for phase, took_s in seconds.items():
        metrics.EDIT_BATCH_SECONDS.labels(phase).observe(took_s)
    for index, held in enumerate(proposed.holds):
        if index in proposed.refused:
            continue  # counted as failed
        metrics.EDITS_APPLIED.labels("holds" if all(held.values()) else "does_not_hold").inc()
    if proposed.damage is not None:
        metrics.CANARY_PERPLEXITY_RATIO.set(proposed.damage.perplexity_ratio)
        for format, kl_nats in proposed.damage.kl_nats.items():
            metrics.CANARY_KL.labels(format).set(kl_nats)
    for layer, norms in candidate.norms.items():
        metrics.UPDATE_NORM.labels(layer).set(norms.update_norm)
        metrics.WEIGHT_DISTANCE.labels(layer).set(norms.distance)
        if norms.cosine is not None:
            metrics.UPDATE_COSINE.labels(layer).set(norms.cosine)
    for each in candidate.summaries:
        metrics.STATISTICS_SAMPLES.labels(f"{each.d_in}x{each.d_out}").set(each.n)
        metrics.STATISTICS_DRIFT.labels(f"{each.d_in}x{each.d_out}").set(each.drift)
