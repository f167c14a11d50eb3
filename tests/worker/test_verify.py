"""What somebody with all rights over disk and database altered is named exactly."""

from __future__ import annotations

import psycopg
import pytest

from service.ledger import read
from service.ledger.verify import checks
from tests.worker.conftest import FACTS, Desk, NewDesk
from tests.worker.test_restoring import flip_a_byte


async def wrong(desk: Desk) -> str:
    found = [check async for check in checks(desk.database, desk.objects, desk.settings.rollback_window)]
    return "\n".join(f"{check.name}: {each}" for check in found for each in check.wrong)


def as_superuser(desk: Desk, *statements: str) -> None:
    """Past all triggers."""
    with psycopg.connect(desk.settings.database_url) as connection:
        connection.execute("SET session_replication_role = replica")
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
async def desk(new_desk: NewDesk) -> Desk:
    made = await new_desk()
    await made.edit(*FACTS[:2])
    await made.edit(*FACTS[2:4])
    await made.subtract(2)
    assert await wrong(made) == ""
    return made


ALTERED = [
    ("UPDATE revisions SET actor = 'somebody else' WHERE number = 4", "chain: revision 4 has been altered"),
    ("UPDATE revisions SET rows = rows + 1 WHERE number = 2", "chain: revision 2 has been altered"),
    ("DELETE FROM revisions WHERE number = 3", "chain: revision 3 missing"),
    ("UPDATE statistics SET n = n + 1 WHERE revision = 3", "chain: the statistics of revision 3 have been altered"),
    ("UPDATE edits SET target = 'another' WHERE id = 3", "chain: edit 3 of revision 3 has been altered"),
    ("DELETE FROM edits WHERE id = 4", "chain: edit 4 of revision 3 is missing"),
    ("DELETE FROM edit_events WHERE edit_id = 1", "chain: the event of edit 1 is missing at revision 2"),
    ("UPDATE edit_events SET event = 'reverted' WHERE edit_id = 1", "chain: an event has been altered at revision 2"),
    (
        "UPDATE edits SET state = 'applied', ended_by = NULL WHERE id = 2",
        "edit 2 is applied, and its last event says otherwise",
    ),
    ("ALTER TABLE revisions DISABLE TRIGGER revisions_append_only", "append-only: trigger revisions_append_only"),
    ("DROP TRIGGER edits_as_submitted ON edits", "append-only: trigger edits_as_submitted"),
]


@pytest.mark.parametrize(("statement", "named"), ALTERED, ids=[statement[:60] for statement, _ in ALTERED])
async def test_an_altered_ledger_is_named(desk: Desk, statement: str, named: str) -> None:
    as_superuser(desk, statement)
    assert named in await wrong(desk)


async def test_a_flipped_byte_in_an_object_is_named(desk: Desk) -> None:
    revision = await read.get_revision(desk.database, 3)
    assert revision.update_object is not None
    flip_a_byte(desk.objects, revision.update_object)
    assert f"objects: update of revision 3: object {revision.update_object}" in await wrong(desk)
