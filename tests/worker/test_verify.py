"""What somebody with all rights over disk and database altered is named exactly."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import Column

from service.domain.edits import NewEdit
from service.infra.tables import metadata
from service.ledger.checkpoints import uses
from service.ledger.verify import checks
from tests.worker.conftest import FACTS, Desk, NewDesk
from tests.worker.test_restoring import flip_a_byte


async def wrong(desk: Desk) -> str:
    found = [check async for check in checks(desk.database, desk.objects, desk.settings.rollback_window)]
    return "\n".join(f"{check.name}: {each}" for check in found for each in check.wrong)


@contextmanager
def altered(desk: Desk, table: str, statement: str) -> Iterator[bool]:
    """As a superuser past all triggers and references, for as long as the block lasts; whether anything was altered at all.

    It is not where the row's own constraints refuse it even to a superuser, or the value is the one that is there.
    """
    with psycopg.connect(desk.settings.database_url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(f"CREATE TEMP TABLE saved AS TABLE {table}")  # type: ignore[arg-type]
        try:
            connection.execute(statement)  # type: ignore[arg-type]
        except (psycopg.errors.IntegrityError, psycopg.errors.GeneratedAlways):
            yield False
            return
        differing = connection.execute(f"SELECT 1 FROM (TABLE {table} EXCEPT TABLE saved) AS different").fetchall()  # type: ignore[arg-type]
        fewer = connection.execute(f"SELECT 1 FROM (TABLE saved EXCEPT TABLE {table}) AS different").fetchall()  # type: ignore[arg-type]
        try:
            yield bool(differing or fewer)
        finally:
            connection.execute(f"DELETE FROM {table}")  # type: ignore[arg-type]
            connection.execute(f"INSERT INTO {table} OVERRIDING SYSTEM VALUE TABLE saved")  # type: ignore[arg-type]


@pytest.fixture
async def desk(new_desk: NewDesk) -> Desk:
    """A ledger with a row of every kind, and an object of every kind.

    Revisions: base, warm-up, edits 1 and 2, edits 3 and 4, edit 2 taken out, back to 3, all without 4, edit 6, all without 6.
    Edit 5 has failed, and so has an operation about edit 7, which is waiting.
    """
    made = await new_desk(checkpoint_every=2)
    for some in (FACTS[:2], FACTS[2:4]):
        await made.edit(*some)
    await made.subtract(2)
    await made.rollback(3)
    await made.rebuild(4)
    await made.edit(NewEdit("Why? " * 2000, "too long"))
    await made.edit(FACTS[5])
    await made.rebuild(6)
    await made.accept(FACTS[6])
    assert (await made.subtract(7)).failure_code == "edit_not_applied"
    assert await wrong(made) == ""
    return made


AMONG = r"edits? (\d+, )*"
ROWS = [  # one of each kind, and what it is called where it is wrong
    ("revisions", "number = 3", "revision 3"),
    ("statistics", "revision = 3", "revision 3"),
    ("edit_events", "edit_id = 3 AND revision = 3", AMONG + "3"),
    ("edits", "id = 3", AMONG + "3"),  # applied
    ("edits", "id = 4", AMONG + "4"),  # left out of a rebuild
    ("edits", "id = 5", AMONG + "5|submission 6"),  # failed
    ("edits", "id = 7", AMONG + "7|submission 9"),  # waiting
    ("operations", "id = 1", "operation 1"),
    ("operations", "id = 5", "operation 5|submission 10"),  # failed
    ("batches", "id = 2", "batch 2"),
    ("submissions", "id = 2", "submission 2"),  # of edits
    ("submissions", "id = 3", "submission 3"),  # of an operation
    ("checkpoints", "revision = 5", "revision (100)?5"),
    ("writer_lease", "id = 1", "lease"),
]
# What nothing vouches for: when and how often something was tried, why something failed that never came into a revision, who
# holds the lease, what a request was called. An altered key lets somebody in, but no fact depends on it.
BOOKKEEPING = {
    "batches": {"tries", "started_at", "finished_at"},
    "checkpoints": {"bytes", "created_at"},
    "edits": {"attempts", "failure_code", "failure_detail", "submitted_at", "finished_at"},
    "operations": {"after_edit", "attempts", "failure_code", "failure_detail", "accepted_at", "finished_at"},
    "submissions": {"idempotency_key", "created_at"},
    "writer_lease": {"holder", "expires_at"},
}
NEVER_TAUGHT = {
    "batch_id",
    "tokens",
    "answers_before",
    "answers_after",
    "holds",
    "unrelated_answers",
    "rephrase_answers",
    "scope",
}
OF_NO_REVISION = {("edits", "id = 5"): NEVER_TAUGHT, ("edits", "id = 7"): NEVER_TAUGHT}
ENUMS = {
    "state": ("accepted", "applying", "applied", "failed", "reverted", "superseded", "committed", "split"),
    "kind": ("base", "warmup", "edit", "subtract", "rollback", "rebuild"),
    "event": ("applied", "taught_again", "restored", "reverted", "superseded", "failed"),
}
JSON = {
    "norms": ["'{}'"],
    "edit_ids": ["'[999]'", "'[]'"],
    "asked_by": ["""'[{"key_id": "0f", "actor": "altered"}]'"""],
    "leans_on": ["'[999]'"],
    "without": ["'[999]'"],
    "rephrases": ["""'["altered"]'"""],
    "unrelated": ["""'["altered"]'"""],
    "aliases": ["""'["altered"]'"""],
    "scope": ["""'["altered"]'"""],
    "answers_before": ["""'{"plain": "altered"}'"""],
    "answers_after": ["""'{"plain": "altered"}'"""],
    "holds": ["""'{"plain": true}'"""],
    "unrelated_answers": ["""'[{"prompt": "?", "format": "plain", "before": "", "after": "", "changed": false}]'"""],
    "rephrase_answers": ["""'[{"prompt": "?", "format": "plain", "answer": "", "holds": true}]'"""],
}


def other_values(column: Column[Any]) -> list[str]:
    """What the column might be altered to, in SQL."""
    name = column.name
    match column.type.python_type.__name__:
        case "int" if f"{column.table.name}.{name}" == "writer_lease.epoch":
            return ["epoch - 1"]  # a greater one does nothing but end the writer's
        case "int" | "float":
            return [f"coalesce({name} + 1000, 1000)", f"{name} - 1"]
        case "datetime":
            return [f"coalesce({name}, now()) + interval '1 day'"]
        case "str":
            return [f"'{each}'" for each in ENUMS.get(name, [("0f" * 32)[: getattr(column.type, "length", None)]])]
        case _:
            return JSON[name]


def test_every_table_of_the_ledger_is_tried() -> None:
    assert {table for table, _, _ in ROWS} == set(metadata.tables) - {"api_keys", "ledger_identity"}


async def test_an_edited_row_is_named_whatever_is_edited_in_it(desk: Desk) -> None:
    for table, row, named in ROWS:
        unnamed = set()
        for column in metadata.tables[table].columns:
            for value in other_values(column):
                with altered(desk, table, f"UPDATE {table} SET {column.name} = {value} WHERE {row}") as happened:
                    if happened and not re.search(rf"({named})\b", await wrong(desk)):
                        unnamed.add(column.name)
        assert unnamed <= BOOKKEEPING.get(table, set()) | OF_NO_REVISION.get((table, row), set()), (table, row)


async def test_a_deleted_row_is_named(desk: Desk) -> None:
    for table, row, named in ROWS:
        with altered(desk, table, f"DELETE FROM {table} WHERE {row}") as happened:
            assert happened
            if table != "checkpoints":  # a cache: what it would have given is had from the one before
                assert re.search(rf"({named})\b", await wrong(desk)), (table, row)


async def test_the_newest_rows_deleted_are_named(desk: Desk) -> None:
    """Nothing is chained to them yet; what they were made from tells."""
    head = await desk.head()
    for table, row, named in (
        ("revisions", f"number = {head.number}", f"operation 4 is applied, and revision {head.number} is not its own"),
        ("operations", "id = 4", f"revision {head.number} is of operation 4, which is not there"),
        ("edit_events", f"revision = {head.number}", f"missing at revision {head.number}"),
    ):
        with altered(desk, table, f"DELETE FROM {table} WHERE {row}"):
            assert named in await wrong(desk), table


@pytest.mark.parametrize(
    "statement",
    ["ALTER TABLE revisions DISABLE TRIGGER revisions_append_only", "DROP TRIGGER edits_as_submitted ON edits"],
)
async def test_a_trigger_that_is_gone_or_switched_off_is_named(desk: Desk, statement: str) -> None:
    with psycopg.connect(desk.settings.database_url) as connection:
        connection.execute(statement)
    assert re.search("append-only: trigger (revisions_append_only|edits_as_submitted)", await wrong(desk))


async def test_a_flipped_byte_is_named_in_every_kind_of_object_and_so_is_one_that_is_gone(desk: Desk) -> None:
    async with desk.database.snapshot() as work:
        needed = await uses(work, desk.settings.rollback_window)
    assert {what.partition(" of ")[0] for what in needed.values()} == {"update", "statistics", "checkpoint"}
    for name, what in needed.items():
        whole = desk.objects.path(name).read_bytes()
        flip_a_byte(desk.objects, name)
        assert f"objects: {what}: object {name}" in await wrong(desk)
        desk.objects.path(name).unlink()
        assert f"objects: {what}: object {name}" in await wrong(desk)
        desk.objects.put(whole)
    assert await wrong(desk) == ""
