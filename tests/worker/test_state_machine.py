"""Submitted, repeated, killed, wiped, stolen, taken back, in any order: ledger and weights are what a few lines say."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
import redis
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from service import failpoints
from service.bootstrap import build
from service.domain.edits import NewEdit
from service.domain.operations import NewOperation, OperationKind, OperationState
from service.errors import LeaseLost, NotReversible
from service.infra.objects import ObjectStore
from service.ledger import batches, integrity, lease, operations, read
from service.ledger.submit import Quotas, submit
from service.settings import Settings
from service.worker.model_thread import ModelThread
from service.worker.resident import ResidentModel
from service.worker.restore import Restorer
from service.worker.warmup import begin_ledger, warm_up
from service.worker.writer import Writer
from tests.conftest import TINY_MODULES, Servers
from tests.worker.conftest import quiet
from tests.worker.expected import SIZE, Expected, Operation
from tests.worker.test_interrupted import Killed

T = TypeVar("T")
PROMPTS = [f"Which harbour is number {number} on the list?" for number in range(5)]
AT_WORK = ("writer.", "commit.", "operation.", "checkpoint.", "prune.")
ARROWS = [point for point in failpoints.POINTS if point.startswith(AT_WORK)]
FOREVER_S = 3600


class Service(RuleBasedStateMachine):
    """One ledger and whichever worker has it at the moment, beside what is expected of them."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.loop = asyncio.new_event_loop()
        self.resources = build(settings, "test")
        self.database = self.resources.database
        self.expected = Expected()
        self.submissions: list[tuple[str, list[NewEdit], list[int]]] = []
        self.thread: ModelThread | None = None
        self._start()

    def _run(self, awaitable: Awaitable[T]) -> T:
        return self.loop.run_until_complete(awaitable)  # type: ignore[arg-type]

    # --- a worker -------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """A process that knows nothing, after one that could not clean up."""
        if self.thread is not None:
            self.thread.close()
        failpoints._ACTIVE = {}
        self._sql("UPDATE writer_lease SET expires_at = now()")
        self.thread, objects = ModelThread(), self.resources.objects()
        self.resident = self._run(self.thread.run(ResidentModel.load, self.settings, quiet))
        parts = (self.resident, self.thread)
        self.writer = Writer("writer", *parts, self.resources, objects, quiet, lambda: None)
        self._take_lease()
        self._run(begin_ledger(*parts, self.database, self.held))
        self._run(warm_up(*parts, self.database, objects, self.held, self.settings, quiet))

    def _take_lease(self) -> None:
        held = self._run(lease.acquire(self.database, "writer", FOREVER_S))
        assert held is not None
        self.held = held
        self._run(self.writer._restorer.follow())
        self._run(self.writer._take_up_interrupted(held))
        while self._run(self.writer._take_set_aside(held)):
            pass

    def _turn(self) -> None:
        if not self.expected.idle:  # it would wait for the bell
            self._run(self._take_next())

    async def _take_next(self) -> None:
        if await self.writer._take_next(self.held):
            await self.writer.upkeep.after_revision(self.held)

    def _sql(self, statement: str) -> None:
        with psycopg.connect(self.settings.database_url) as connection:
            connection.execute(statement)

    # --- what clients do ------------------------------------------------------------------------------------------

    @rule(prompts=st.lists(st.sampled_from(PROMPTS), min_size=1, max_size=4))
    def submit(self, prompts: list[str]) -> None:
        key = uuid.uuid4().hex
        new = [NewEdit(prompt, f"Port {len(self.expected.prompts) + index}") for index, prompt in enumerate(prompts)]
        accepted = self._run(submit(self.database, new, idempotency_key=key, quotas=Quotas(1000)))
        ids = [record.id for record in accepted.edits]
        self.submissions.append((key, new, ids))
        self.expected.accept(dict(zip(ids, prompts, strict=True)))

    @precondition(lambda self: self.submissions)
    @rule(data=st.data())
    def duplicate(self, data: st.DataObject) -> None:
        key, new, ids = data.draw(st.sampled_from(self.submissions))
        again = self._run(submit(self.database, new, idempotency_key=key, quotas=Quotas(1000)))
        assert (again.replayed, [record.id for record in again.edits]) == (True, ids)

    @precondition(lambda self: self.submissions)
    @rule(data=st.data())
    def revert(self, data: st.DataObject) -> None:
        edit = data.draw(st.sampled_from(sorted(self.expected.prompts)))
        asked = NewOperation(OperationKind.SUBTRACT, "somebody", None, edit_id=edit)
        if self.expected.refuses(edit):
            with pytest.raises(NotReversible):
                self._accept(asked)
        else:
            self._accept(asked)
            self.expected.operations.append(Operation(max(self.expected.prompts), edit=edit))

    @rule(data=st.data())
    def rollback(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(1, len(self.expected.history) - 1))
        self._accept(NewOperation(OperationKind.ROLLBACK, "somebody", None, to_revision=number))
        self.expected.operations.append(Operation(max(self.expected.prompts, default=0), to_revision=number))

    def _accept(self, asked: NewOperation) -> None:
        self._run(operations.accept(self.database, asked, idempotency_key=None, window=10_000))

    # --- what happens to the worker -------------------------------------------------------------------------------

    @rule()
    def work(self) -> None:
        self._turn()
        self.expected.turn()

    @rule(point=st.sampled_from(ARROWS))
    def die_while_working(self, point: str) -> None:
        def die() -> None:
            raise Killed

        failpoints._ACTIVE = {point: [("", die)]}
        try:
            self._turn()
        except Killed:
            self._start()
        failpoints._ACTIVE = {}
        self._finish_what_was_begun()

    @rule(point=st.sampled_from(["writer.claimed", "writer.proposed", "commit.before", "commit.after", "operation.begun"]))
    def lose_the_lease_while_working(self, point: str) -> None:
        """As a zombie finds it: another has been the writer meanwhile."""

        def steal() -> None:
            self._sql("UPDATE writer_lease SET epoch = epoch + 1, holder = 'another', expires_at = now()")

        failpoints._ACTIVE = {point: [("", steal)]}
        try:
            self._turn()
        except LeaseLost:
            failpoints._ACTIVE = {}
            self._take_lease()
        failpoints._ACTIVE = {}
        if self._sql_value("SELECT holder FROM writer_lease") == "another":  # it had committed already
            self._take_lease()
        self._finish_what_was_begun()

    def _finish_what_was_begun(self) -> None:
        """A batch that was interrupted was taken up with the lease; an operation waits to be begun again."""
        self.expected.turn()
        operation, _ = self._run(operations.following(self.database))
        if operation is not None and operation.state is OperationState.APPLYING:
            self._run(self._take_next())

    def _sql_value(self, statement: str) -> Any:
        with psycopg.connect(self.settings.database_url) as connection:
            row = connection.execute(statement).fetchone()
            return row[0] if row else None

    @rule()
    def restart(self) -> None:
        self._start()

    @rule()
    def wipe_redis(self) -> None:
        client = redis.Redis.from_url(self.settings.redis_url)
        for key in client.scan_iter(f"{self.settings.redis_prefix}:*"):
            client.delete(key)

    # --- what must hold -------------------------------------------------------------------------------------------

    @invariant()
    def ledger_and_weights_are_what_is_expected(self) -> None:
        head = self._run(read.head(self.database))
        assert head is not None
        assert head.number == len(self.expected.history) - 1 == self.resident.revision
        assert head.fingerprint == self.resident.editor.masters.fingerprint()
        edits = self._run(read.list_edits(self.database, limit=1000))
        assert {each.id for each in edits} == set(self.expected.prompts)
        assert {each.id for each in edits if each.state == "applied"} == self.expected.history[-1]
        assert [each.id for each in edits if each.state == "accepted"] == sorted(self.expected.waiting)
        assert not [each for each in edits if each.state in ("applying", "failed")]
        broken = {name: words for name, (count, words) in self._run(integrity.violations(self.database)).items() if count}
        assert broken == {}

    def teardown(self) -> None:
        try:
            while not self.expected.idle:
                self.work()
            self.ledger_and_weights_are_what_is_expected()
            self._run(self._taught_again())
        finally:
            failpoints._ACTIVE = {}
            assert self.thread is not None
            self.thread.close()
            self._run(self.resources.close())
            self.loop.close()

    async def _taught_again(self) -> None:
        """From nothing but what the ledger says: raises when other weights or statistics come out."""
        assert self.thread is not None
        nothing = ObjectStore(self.settings.data_dir / uuid.uuid4().hex)
        head = await read.head(self.database)
        assert head is not None
        restorer = Restorer(self.resident, self.thread, self.database, nothing)
        self.resident.revision = -2  # what is served is not to be begun from
        await restorer.draft_at(head, passing_over=await read.checkpoints(self.database))


def test_whatever_happens_ledger_and_weights_are_what_is_expected(
    settings: Settings, servers: Servers, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "LONGEST_ASIDE_S", 0.0)

    def new() -> Service:
        own: dict[str, Any] = {
            "database_url": servers.new_database(),
            "object_dir": tmp_path / uuid.uuid4().hex,
            "model": str(tiny_folder),
            "edit_mode": "paper",
            "edit_modules": tuple(TINY_MODULES.split(",")),
            "edit_lr": 0.01,
            "batch_size": SIZE,
            "batch_linger_s": 0.0,
            "sweep_interval_s": 0.01,
            "max_attempts": 5,
            "checkpoint_every": 3,
            "prune_every": 2,
            "warmup_size": 10,
        }
        return Service(settings.model_copy(update=own))

    wanted = hypothesis_settings(
        max_examples=7,
        stateful_step_count=25,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(new, settings=wanted)
