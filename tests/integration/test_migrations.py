"""The schema the migrations build is the one the code means, and every step goes both ways, with what is in it."""

from __future__ import annotations

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from service.bootstrap import build
from service.domain.edits import NewEdit
from service.ledger import batches, integrity, lease, read
from service.ledger.submit import submit
from service.ledger.verify import checks
from service.settings import Settings

HASH = "'" + "a" * 64 + "'"
# A ledger as the first schema had it: base, warm-up, one committed batch of two edits, one that is under way, one that failed.
OLD_LEDGER = f"""
    INSERT INTO submissions (idempotency_key, body_hash) VALUES ('key', {HASH});
    INSERT INTO batches (state, epoch) VALUES ('committed', 1), ('applying', 1);
    INSERT INTO revisions (number, kind, batch_id, epoch, fingerprint, config_hash, norms, passes, rows, edit_ids, edits_hash,
        previous_hash, row_hash, created_at)
    SELECT n, (ARRAY['base', 'warmup', 'edit'])[n + 1], CASE n WHEN 2 THEN 1 END, 1, {HASH}, {HASH}, '{{}}', 1, 3,
        CASE n WHEN 2 THEN '[1, 2]'::jsonb ELSE '[]' END, {HASH}, repeat(n::text, 64), repeat((n + 1)::text, 64), now()
    FROM generate_series(0, 2) AS n;
    INSERT INTO statistics (revision, d_in, d_out, n, mean_norm, drift)
    SELECT n, 4, 2, 10 * n, 1, 1 FROM generate_series(1, 2) AS n;
    INSERT INTO edits (submission_id, prompt, target, state, batch_id, revision, failure_code) VALUES
        (1, 'Who?', 'Ann', 'applied', 1, 2, NULL), (1, 'WHERE  is it?', 'Here', 'applied', 1, 2, NULL),
        (1, 'When?', 'Now', 'applying', 2, NULL, NULL), (1, 'Why?', 'So', 'failed', 1, NULL, 'does_not_hold'),
        (1, 'How?', 'Thus', 'accepted', NULL, NULL, NULL);
    INSERT INTO writer_lease (id, holder, epoch, expires_at) VALUES (1, 'old', 1, now());
"""
ALL = [each.revision for each in ScriptDirectory("migrations").walk_revisions()]


@pytest.fixture
def config(settings: Settings) -> Config:
    config = Config("alembic.ini")
    config.set_main_option("sqlalchemy.url", settings.database_url.replace("%", "%%"))
    return config


def test_the_tables_are_what_the_migrations_build(config: Config) -> None:
    command.check(config)  # raises when a new migration would be needed


def test_the_schema_can_be_taken_down_and_built_again(config: Config, settings: Settings) -> None:
    command.downgrade(config, "base")
    with psycopg.connect(settings.database_url) as connection:
        left = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert left == [("alembic_version",)]
    command.upgrade(config, "head")
    command.check(config)


@pytest.fixture(params=[each for each in ALL if each < "0003"])
def old_ledger(config: Config, settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """A ledger begun under an earlier schema, brought to the newest."""
    command.downgrade(config, "base")
    command.upgrade(config, request.param)
    with psycopg.connect(settings.database_url) as connection:
        connection.execute(OLD_LEDGER)
    command.upgrade(config, "head")
    command.check(config)
    return settings


async def test_a_ledger_of_an_earlier_schema_is_gone_on_with(old_ledger: Settings) -> None:
    resources = build(old_ledger, "test")
    try:
        database = resources.database
        assert await read.applied_at(database, 2) == {1: 2, 2: 2}
        assert await read.applied_at(database, 1) == {}
        same = await read.applied_with_prompts(database, ["where is IT?"])
        assert [record.id for record in same] == [2]
        assert [name for name, (count, _) in (await integrity.violations(database)).items() if count] == []
        held = await lease.acquire(database, "new", 60)
        assert held is not None
        [taken] = await batches.take_over_interrupted(database, held, 3)
        assert [record.id for record in taken.edits] == [3]
        replayed = await submit(database, [NewEdit("Another?", "Yes")], idempotency_key=None, max_queued_edits=10)
        assert [record.id for record in replayed.edits] == [6]
        found = {check.name: check.wrong async for check in checks(database, resources.objects(), 200)}
        assert found["append-only"] == []
    finally:
        await resources.close()


def test_a_schema_with_nothing_taken_back_can_be_left_again(config: Config, old_ledger: Settings) -> None:
    command.downgrade(config, "0002")
    command.upgrade(config, "head")
    with psycopg.connect(old_ledger.database_url) as connection:
        assert connection.execute("SELECT count(*) FROM edits").fetchone() == (5,)
