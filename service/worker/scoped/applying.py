"""One batch of scoped edits, carried to its commit: teach and judge, persist, commit, exchange."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from editor_core.errors import EncodingError
from editor_core.scoped.editor import Learned
from editor_core.scoped.entry import Entry
from editor_core.scoped.in_force import EditsInForce
from service import failpoints, metrics
from service.domain.edits import Batch, EditEvent, EditRecord, Failure, Outcome, RephraseAnswer, UnrelatedAnswer, same_prompt
from service.domain.revisions import RevisionKind
from service.infra.objects import ObjectStore
from service.ledger import batches, read
from service.ledger.commit import Effects, commit_revision
from service.ledger.lease import Lease
from service.worker.applying import Applying, record_state
from service.worker.proposing import as_edit
from service.worker.scoped.resident import ScopedCandidate
from service.worker.scoped.state import ScopedState

log = structlog.get_logger()
DOES_NOT_HOLD = "does_not_hold"


class ScopedApplying(Applying):
    """Applies batches to a model with scoped edits."""

    _resident: Any  # a ScopedModel

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
        began, self._thread.longest_stretch_s = time.perf_counter(), 0.0
        resident = self._resident
        applied = await read.applied_with_prompts(self._database, [record.edit.prompt for record in batch.edits])
        replacing = _replacing(batch.edits, applied)
        run = await self._thread.run(
            resident.editor.run, [(record.id, as_edit(record)) for record in batch.edits], resident.served.state
        )
        run.replaced = tuple(sorted({old for each in replacing.values() for old in each}))
        seconds: dict[str, float] = {}
        async for phase, took_s in self._thread.each(run.steps):
            seconds[phase] = seconds.get(phase, 0.0) + took_s
        failpoints.hit("writer.proposed", [record.edit.prompt for record in batch.edits])
        learned = {record.id: each for record, each in zip(batch.edits, run.learned, strict=True)}
        failures = [
            Failure(edit_id, DOES_NOT_HOLD, said_instead(each), each.tokens)
            for edit_id, each in learned.items()
            if resident.editor.policy.requires_holding and not each.is_held
        ]
        left = {edit_id: each for edit_id, each in learned.items() if edit_id not in {failure.edit_id for failure in failures}}
        if not left:
            await self._fail(held, batch, [replace(each, tokens=None) for each in failures])  # no statistics to come
            return
        assert run.statistics is not None
        names = await _persisted(self._objects, left)
        replaced = sorted({old for edit_id, each in left.items() for old in (*replacing.get(edit_id, ()), *each.replaced)})
        entries = {edit_id: Entry.of(names[edit_id], each.record.address) for edit_id, each in left.items()}
        state = ScopedState(resident.served.state.changed({**dict.fromkeys(replaced), **entries}), run.statistics)
        candidate = await self._thread.run(resident.candidate, state, left)
        statistics = await asyncio.to_thread(self._objects.put, candidate.statistics)
        failpoints.hit("writer.persisted", [record.edit.prompt for record in batch.edits])
        number = resident.revision + 1
        passes = max(each.taught.passes for each in left.values())
        await commit_revision(
            self._database,
            held,
            resident.new_revision(number, RevisionKind.EDIT, candidate, statistics, passes),
            batch=replace(batch, edits=tuple(record for record in batch.edits if record.id in left)),
            outcomes=[outcome_of(edit_id, each, names[edit_id]) for edit_id, each in left.items()],
            refused=failures,
            effects=Effects(ended=dict.fromkeys(replaced, EditEvent.SUPERSEDED)),
        )
        metrics.EDITS_APPLIED.labels("failed").inc(len(failures))
        pause_s = await self._thread.exchange(resident.adopt, state, number)
        failpoints.hit("writer.applied")
        self._on_revision()
        await self._heads.publish(number)
        failpoints.hit("writer.published")
        _record(left, candidate, seconds, pause_s, self._thread.longest_stretch_s)
        log.info(
            "batch applied",
            batch=batch.id,
            revision=number,
            edits=len(left),
            refused=len(failures),
            superseded=len(replaced),
            passes=passes,
            seconds=round(time.perf_counter() - began, 2),
            fingerprint=candidate.fingerprint[:16],
        )


def _replacing(records: Sequence[EditRecord], applied: Sequence[EditRecord]) -> dict[int, list[int]]:
    """By id of an edit: those of the same prompt that are in force."""
    found: dict[int, list[int]] = {}
    for record in records:
        asked = same_prompt(record.edit.prompt)
        found[record.id] = [old.id for old in applied if same_prompt(old.edit.prompt) == asked]
    return found


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


def _record(
    learned: Mapping[int, Learned],
    candidate: ScopedCandidate,
    seconds: Mapping[str, float],
    pause_s: float,
    longest_stretch_s: float,
) -> None:
    metrics.EDIT_BATCH_SIZE.observe(len(learned))
    metrics.EDIT_PAUSE_SECONDS.observe(pause_s)
    metrics.EDIT_STRETCH_SECONDS.set(longest_stretch_s)
    for phase, took_s in seconds.items():
        metrics.EDIT_BATCH_SECONDS.labels(phase).observe(took_s)
    for each in learned.values():
        metrics.EDIT_PASSES.observe(each.taught.passes)
        metrics.EDITS_APPLIED.labels("holds" if each.is_held else "does_not_hold").inc()
    record_state(candidate)
