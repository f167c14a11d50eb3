"""Records of edits' own: which are in force at a revision, what of them a revision changed, which nobody needs any more."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from service.bootstrap import Resources
from service.domain.edits import EditEvent, Failure, NewEdit, Outcome, RephraseAnswer
from service.domain.revisions import RevisionKind
from service.ledger import batches, read
from service.ledger.commit import Effects, commit_revision
from service.ledger.lease import Lease
from service.ledger.submit import Quotas, submit
from service.ledger.verify import checks
from tests.integration.test_ledger import revision

FACTS = [NewEdit(f"Who is mayor of town {each}?", "Ann", subject=f"town {each}", aliases=("it",)) for each in range(1, 5)]


def record(edit_id: int, revision: int) -> str:
    return f"{edit_id:032x}{revision:032x}"


def outcome(edit_id: int, number: int) -> Outcome:
    return Outcome(
        edit_id,
        {"plain": "?"},
        {"plain": "Ann"},
        {"plain": True},
        scope=(f"town {edit_id}", f"it, as of {number}"),
        rephrases=(RephraseAnswer("Who?", "plain", "Ann", True),),
        record_object=record(edit_id, number),
    )


class History:
    """A ledger with events of every kind. Edit 5 is of another mode and has no record."""

    def __init__(self, resources: Resources, held: Lease) -> None:
        self._database, self._held = resources.database, held

    async def write(self) -> None:
        await commit_revision(self._database, self._held, revision(0, RevisionKind.BASE))
        await self.apply(1, FACTS[:3])
        await self.apply(2, FACTS[3:], Effects(taught_again=[outcome(2, 2)], ended={1: EditEvent.SUPERSEDED}))
        await self.change(3, Effects(ended={2: EditEvent.REVERTED}))
        await self.apply(4, [NewEdit("Where?", "Here")])
        await self.change(5, Effects(failures=[Failure(3, "does_not_hold", "")]))
        await self.change(6, Effects(restored={2: 1, 3: 1}))

    async def apply(self, number: int, facts: list[NewEdit], effects: Effects | None = None) -> None:
        await submit(self._database, facts, idempotency_key=None, quotas=Quotas(10))
        batch = await batches.claim(self._database, self._held, 10)
        assert batch is not None
        named = [each for each in batch.edits if each.edit.subject]
        bare = [Outcome(each.id, {}, {}, {}) for each in batch.edits if not each.edit.subject]
        outcomes = [*(outcome(each.id, number) for each in named), *bare]
        new = revision(number)
        await commit_revision(self._database, self._held, new, batch=batch, outcomes=outcomes, effects=effects or Effects())

    async def change(self, number: int, effects: Effects) -> None:
        await commit_revision(self._database, self._held, revision(number, RevisionKind.SUBTRACT), effects=effects)


# By revision: the records in force.
IN_FORCE = {
    0: {},
    1: {1: record(1, 1), 2: record(2, 1), 3: record(3, 1)},
    2: {2: record(2, 2), 3: record(3, 1), 4: record(4, 2)},
    3: {3: record(3, 1), 4: record(4, 2)},
    4: {3: record(3, 1), 4: record(4, 2)},
    5: {4: record(4, 2)},
    6: {2: record(2, 1), 3: record(3, 1), 4: record(4, 2)},
}


@pytest.fixture
async def written(resources: Resources, held: Lease) -> History:
    history = History(resources, held)
    await history.write()
    return history


async def test_at_any_revision_the_records_are_those_of_the_edits_in_the_weights(
    resources: Resources, written: History
) -> None:
    assert {number: await read.records_at(resources.database, number) for number in IN_FORCE} == IN_FORCE


async def test_what_changed_between_two_revisions_leads_from_the_one_to_the_other(
    resources: Resources, written: History
) -> None:
    for after, before in IN_FORCE.items():
        for up_to in range(after, 7):
            changed = await read.records_changed(resources.database, after, up_to)
            followed = {**before, **changed}
            assert {edit_id: each for edit_id, each in followed.items() if each is not None} == IN_FORCE[up_to]
            known = await read.records_before(resources.database, after, list(changed))
            assert known == {edit_id: before.get(edit_id) for edit_id in changed}
    assert await read.records_changed(resources.database, 4, 5) == {3: None}


async def test_what_is_restored_has_the_record_it_was_taught_with(resources: Resources, written: History) -> None:
    events = await read.history(resources.database, 2)
    assert [(number, each.event, each.record_object) for number, each in events.items()] == [
        (1, "applied", record(2, 1)),
        (2, "taught_again", record(2, 2)),
        (3, "reverted", None),
        (6, "restored", record(2, 1)),
    ]


async def test_a_record_is_needed_while_a_revision_in_the_window_has_it_in_force(
    resources: Resources, written: History
) -> None:
    known = {each for records in IN_FORCE.values() for each in records.values()}
    for begin in IN_FORCE:
        needed = {each for later, records in IN_FORCE.items() if later >= begin for each in records.values()}
        async with resources.database.transaction() as work:
            assert set(await work.repository.needed_records(begin)) == needed, begin
    assert known - needed == {record(1, 1), record(2, 2)}


async def test_a_record_that_two_edits_share_is_needed_while_one_of_them_has_it(resources: Resources, held: Lease) -> None:
    history = History(resources, held)
    await commit_revision(resources.database, held, revision(0, RevisionKind.BASE))
    await submit(resources.database, FACTS[:2], idempotency_key=None, quotas=Quotas(10))
    batch = await batches.claim(resources.database, held, 10)
    assert batch is not None
    shared = [Outcome(each.id, {}, {}, {}, record_object="5" * 64) for each in batch.edits]
    await commit_revision(resources.database, held, revision(1), batch=batch, outcomes=shared)
    await history.change(2, Effects(ended={1: EditEvent.REVERTED}))
    async with resources.database.transaction() as work:
        assert await work.repository.needed_records(2) == {"5" * 64: 1}
    await history.change(3, Effects(ended={2: EditEvent.REVERTED}))
    async with resources.database.transaction() as work:
        assert await work.repository.needed_records(3) == {}


async def test_scope_and_answers_are_those_of_the_last_time_it_was_taught(resources: Resources, written: History) -> None:
    once, again, bare = [await read.get_edit(resources.database, edit_id) for edit_id in (3, 2, 5)]
    assert once.scope == ("town 3", "it, as of 1")
    assert again.scope == ("town 2", "it, as of 2")
    assert again.rephrase_answers == (RephraseAnswer("Who?", "plain", "Ann", True),)
    assert (bare.scope, bare.rephrase_answers) == ((), ())


async def wrong(resources: Resources) -> dict[str, list[str]]:
    found = {each.name: each.wrong async for each in checks(resources.database, resources.objects(), 200)}
    return {name: words for name, words in found.items() if words and name != "objects"}


@pytest.mark.parametrize(
    ("statement", "check", "named"),
    [
        ("UPDATE edits SET subject = NULL WHERE id = 3", "requests", "edits 1, 2, 3"),
        ("UPDATE edits SET aliases = '[]' WHERE id = 4", "requests", "edits 4"),
        ("UPDATE edits SET scope = NULL WHERE id = 3", "outcomes", "edit 3"),
        ("UPDATE edits SET rephrase_answers = NULL WHERE id = 2", "outcomes", "edit 2"),
        ("UPDATE edits SET scope = '[\"it\"]' WHERE id = 5", "outcomes", "edit 5"),
        (f"UPDATE edit_events SET record_object = '{'0' * 64}' WHERE revision = 4", "chain", "edit 5"),
        ("UPDATE edit_events SET record_object = NULL WHERE revision = 6 AND edit_id = 2", "chain", "revision 6"),
    ],
)
async def test_what_is_said_of_a_scope_cannot_be_altered_unnoticed(
    resources: Resources, written: History, statement: str, check: str, named: str
) -> None:
    assert await wrong(resources) == {}
    async with resources.database.transaction() as work:
        await work._connection.execute(text("SET session_replication_role = replica"))
        await work._connection.execute(text(statement))
        await work.commit()
    assert named in "; ".join((await wrong(resources))[check])
