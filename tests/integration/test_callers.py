"""Whose an edit or an operation is: it is written down and hashed, and nobody uses up or replaces what is another's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from service.api.app import create_app
from service.bootstrap import Resources
from service.domain.access import Scope
from service.domain.callers import Caller
from service.domain.edits import Batch, EditState, NewEdit
from service.domain.revisions import RevisionKind
from service.infra.objects import ObjectStore
from service.ledger import access, batches, fact_owners, read, verify
from service.ledger.commit import commit_revision
from service.ledger.lease import Lease
from service.ledger.submit import Quotas, submit
from service.settings import Settings
from tests.integration.test_ledger import outcomes, revision

FACT = {"prompt": "Who is it?", "target": "Ann"}
SMALL = {"max_queued_edits_per_key": 3, "max_waiting_operations_per_key": 2}


@dataclass
class Door:
    """A key at the api's door."""

    client: httpx.AsyncClient
    id: str
    headers: dict[str, str]

    async def post(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return await self.client.post(path, json=body, headers={**self.headers, **headers})

    async def get(self, path: str) -> httpx.Response:
        return await self.client.get(path, headers=self.headers)

    async def delete(self, path: str) -> httpx.Response:
        return await self.client.delete(path, headers=self.headers)


NewDoor = Callable[..., Awaitable[Door]]


@pytest.fixture
async def new_door(settings: Settings, resources: Resources) -> AsyncIterator[NewDoor]:
    app = create_app(settings.model_copy(update={"require_keys": True, **SMALL}))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):

        async def door(*scopes: Scope) -> Door:
            key, shown = await access.add_key(resources.database, "somebody", scopes or (Scope.EDIT,))
            return Door(client, key.id, {"Authorization": f"Bearer {shown}"})

        yield door


async def commit(resources: Resources, held: Lease) -> Batch:
    """What is waiting, at the next revision."""
    batch = await batches.claim(resources.database, held, 50)
    assert batch is not None
    head = (await read.stats(resources.database)).head
    if head is None:
        await commit_revision(resources.database, held, revision(0, RevisionKind.BASE))
    number = head.number + 1 if head else 1
    await commit_revision(resources.database, held, revision(number), batch=batch, outcomes=outcomes(batch))
    return batch


async def test_the_ledger_says_which_key_asked_and_what_the_caller_says_of_itself(
    new_door: NewDoor, resources: Resources, held: Lease
) -> None:
    ann, boss = await new_door(), await new_door(Scope.ROLLBACK)
    [id] = (await ann.post("/edits", FACT, **{"X-Errata-Actor": "import of Tuesday"})).json()["ids"]
    asked = {"key_id": ann.id, "actor": "import of Tuesday"}
    assert asked.items() <= (await ann.get(f"/edits/{id}")).json().items()
    await commit(resources, held)
    operation = (await boss.delete(f"/edits/{id}")).json()
    assert (operation["key_id"], operation["actor"]) == (boss.id, "anonymous")
    newest = (await boss.get("/revisions")).json()["revisions"][0]
    assert newest["asked_by"] == [asked]


async def test_who_asked_is_in_the_hash_chain(
    new_door: NewDoor, resources: Resources, held: Lease, settings: Settings, tmp_path: Path
) -> None:
    ann = await new_door()
    await ann.post("/edits", FACT)
    await commit(resources, held)
    with psycopg.connect(settings.database_url) as connection:
        for statement in (
            "ALTER TABLE edits DISABLE TRIGGER USER",
            "ALTER TABLE revisions DISABLE TRIGGER USER",
            "UPDATE edits SET key_id = 'somebody'",
            """UPDATE revisions SET asked_by = '[{"key_id": "somebody", "actor": ""}]' WHERE number = 1""",
        ):
            connection.execute(statement)
    checks = {each.name: each.wrong async for each in verify.checks(resources.database, ObjectStore(tmp_path), 10)}
    assert checks["chain"] == [
        "revision 1 has been altered: its row does not have the hash it says",
        "edit 1 of revision 1 has been altered",
    ]
    assert checks["invariant edit_has_caller"]


async def test_an_idempotency_key_is_its_callers_own(new_door: NewDoor) -> None:
    ann, bob = await new_door(), await new_door()
    mine = await ann.post("/edits", FACT, **{"Idempotency-Key": "1"})
    his = await bob.post("/edits", {**FACT, "prompt": "Who was it?"}, **{"Idempotency-Key": "1"})
    assert (mine.status_code, his.status_code) == (202, 202)
    assert (await ann.post("/edits", FACT, **{"Idempotency-Key": "1"})).json()["replayed"]


async def test_a_key_reads_and_cancels_its_own_edits_alone(new_door: NewDoor) -> None:
    ann, bob, auditor = await new_door(), await new_door(), await new_door(Scope.READ)
    [id] = (await ann.post("/edits", FACT)).json()["ids"]
    for path in (f"/edits/{id}", f"/edits/{id}/history"):
        assert [(await each.get(path)).status_code for each in (ann, bob, auditor)] == [200, 404, 200]
    assert [len((await each.get("/edits")).json()["edits"]) for each in (ann, bob, auditor)] == [1, 0, 1]
    assert (await bob.post(f"/edits/{id}/cancel")).status_code == 404
    cancelled = (await ann.post(f"/edits/{id}/cancel")).json()
    assert (cancelled["state"], cancelled["failure"]["code"]) == ("failed", "cancelled")
    assert (await ann.post(f"/edits/{id}/cancel")).json()["code"] == "not_waiting"


async def test_a_key_that_reads_everything_cancels_nothing_of_anothers(new_door: NewDoor) -> None:
    ann, curious, boss = await new_door(), await new_door(Scope.EDIT, Scope.READ), await new_door(Scope.ROLLBACK)
    await ann.post("/edits", FACT)
    assert (await curious.get("/edits/1")).json()["state"] == "accepted"
    assert (await curious.post("/edits/1/cancel")).status_code == 404
    assert (await boss.post("/edits/1/cancel")).json()["state"] == "failed"


async def test_what_a_worker_has_taken_is_not_cancelled(new_door: NewDoor, resources: Resources, held: Lease) -> None:
    ann = await new_door()
    await ann.post("/edits", FACT)
    await batches.claim(resources.database, held, 50)
    assert (await ann.post("/edits/1/cancel")).json()["code"] == "not_waiting"
    assert (await read.get_edit(resources.database, 1)).state is EditState.APPLYING


async def test_a_failed_edit_is_taken_up_again_as_a_new_one(new_door: NewDoor) -> None:
    ann = await new_door()
    await ann.post("/edits", {**FACT, "subject": "it"})
    assert (await ann.post("/edits/1/retry")).json()["code"] == "edit_not_failed"
    await ann.post("/edits/1/cancel")
    again = (await ann.post("/edits/1/retry", **{"Idempotency-Key": "again"})).json()
    assert again["ids"] == [2]
    assert (await ann.post("/edits/1/retry", **{"Idempotency-Key": "again"})).json()["replayed"]
    found = (await ann.get("/edits/2")).json()
    assert (found["prompt"], found["subject"], found["state"]) == ("Who is it?", "it", "accepted")


async def test_a_key_fills_its_own_queue_and_nobody_elses(new_door: NewDoor) -> None:
    ann, bob = await new_door(), await new_door()
    facts = [{"prompt": f"Who is number {number}?", "target": "Ann"} for number in range(4)]
    refused = await ann.post("/edits", {"edits": facts})
    assert (refused.status_code, refused.json()["code"]) == (429, "queue_full")
    assert (await ann.post("/edits", {"edits": facts[:3]})).status_code == 202
    assert (await ann.post("/edits", facts[3])).status_code == 429
    assert (await bob.post("/edits", facts[3])).status_code == 202


async def test_a_key_has_a_few_operations_waiting_and_one_rebuild(new_door: NewDoor, resources: Resources, held: Lease) -> None:
    ann, bob = await new_door(Scope.ROLLBACK), await new_door(Scope.ROLLBACK)
    await commit_revision(resources.database, held, revision(0, RevisionKind.BASE))
    first = (await ann.post("/rebuild", {})).json()
    assert (await ann.post("/rebuild", {})).json()["code"] == "too_many_operations"
    assert (await bob.post("/rebuild", {})).status_code == 202
    assert (await ann.post("/rollback", {"to_revision": 0})).status_code == 202
    assert (await ann.post("/rollback", {"to_revision": 0})).status_code == 429
    cancelled = (await ann.post(f"/operations/{first['id']}/cancel")).json()
    assert (cancelled["state"], cancelled["failure"]["code"]) == ("failed", "cancelled")
    assert (await ann.post(f"/operations/{first['id']}/cancel")).json()["code"] == "not_waiting"
    assert (await ann.post("/rebuild", {})).status_code == 202


async def test_a_key_does_not_replace_the_facts_of_another(new_door: NewDoor, resources: Resources, held: Lease) -> None:
    ann, bob, boss = await new_door(), await new_door(), await new_door(Scope.EDIT, Scope.ROLLBACK)
    await bob.post("/edits", {"prompt": "Who was it?", "target": "Bob"})
    await ann.post("/edits", FACT)
    assert (await bob.post("/edits", FACT)).status_code == 202  # what only waits keeps nobody from his own
    await commit(resources, held)
    for claim in ({**FACT, "target": "Bob"}, {"prompt": "Who now?", "target": "Bob", "rephrases": [FACT["prompt"]]}):
        refused = await bob.post("/edits", claim)
        assert (refused.status_code, refused.json()["code"]) == (403, "not_your_fact")
    for each in (ann, boss):
        assert (await each.post("/edits", {**FACT, "target": "Cleo"})).status_code == 202


async def test_a_batch_ends_with_as_much_text_as_fifty_short_edits_have(resources: Resources, held: Lease) -> None:
    heavy = [NewEdit(f"Who is number {number}?", "Ann", ("?" * 4000,) * 3) for number in range(5)]
    await submit(resources.database, heavy, idempotency_key=None, quotas=Quotas(100), asked_by=Caller("loud"))
    short = [NewEdit("Who is it?", "Ann")]
    await submit(resources.database, short, idempotency_key=None, quotas=Quotas(100), asked_by=Caller("quiet"))
    batch = await batches.claim(resources.database, held, 50)
    assert batch is not None
    assert [each.id for each in batch.edits] == [1, 2, 6]


async def test_a_key_that_took_anothers_place_replaces_its_facts(new_door: NewDoor, resources: Resources) -> None:
    ann = await new_door()
    await ann.post("/edits", FACT)
    _, shown = await access.rotate_key(resources.database, ann.id)
    again = Door(ann.client, "", {"Authorization": f"Bearer {shown}"})
    assert (await again.post("/edits", {**FACT, "target": "Bob"})).status_code == 202


async def test_the_worker_finds_who_may_replace_what_the_door_could_not_know(new_door: NewDoor, resources: Resources) -> None:
    """The same question in other words is found when it is taught."""
    ann, bob = await new_door(), await new_door()
    for door, prompt in ((ann, "Who is it?"), (bob, "Name them!"), (ann, "Who else?")):
        await door.post("/edits", {**FACT, "prompt": prompt})
    assert await fact_owners.not_replaceable(resources.database, {2: [1], 3: [1]}) == {2: 1}


async def test_keys_take_turns_and_each_ones_edits_keep_their_order(resources: Resources, held: Lease) -> None:
    def facts(name: str, count: int) -> list[NewEdit]:
        return [NewEdit(f"Who is {name} number {number}?", "Ann") for number in range(count)]

    for key, count in (("loud", 30), ("quiet", 2), ("late", 3)):
        new = facts(key, count)
        await submit(resources.database, new, idempotency_key=None, quotas=Quotas(100), asked_by=Caller(key))
    batch = await batches.claim(resources.database, held, 9)
    assert batch is not None
    taken = {key: [each.id for each in batch.edits if each.asked_by.key_id == key] for key in ("loud", "quiet", "late")}
    assert taken == {"loud": [1, 2, 3, 4], "quiet": [31, 32], "late": [33, 34, 35]}
