"""The schema the migrations build is the one the code means, and every step goes both ways, with what is in it."""

from __future__ import annotations

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.exc import IntegrityError

from service.bootstrap import build
from service.domain.callers import Caller
from service.domain.edits import NewEdit
from service.infra.repository.edits import prompt_hash
from service.ledger import batches, integrity, lease, read
from service.ledger.submit import Quotas, submit
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
# What has come since: an edit taken out and back in, under the third schema; a key, under the tenth.
TAKEN_BACK = f"""
    INSERT INTO submissions (idempotency_key, body_hash) VALUES ('subtract', {HASH}), ('rollback', {HASH});
    INSERT INTO operations (submission_id, kind, state, edit_id, to_revision, actor, after_edit, revision) VALUES
        (2, 'subtract', 'applied', 1, NULL, 'ann', 5, 3), (3, 'rollback', 'applied', NULL, 2, 'ann', 5, 4);
    INSERT INTO revisions (number, kind, epoch, fingerprint, config_hash, norms, passes, rows, edit_ids, edits_hash,
        previous_hash, row_hash, created_at, source, operation_id, actor, events_hash, statistics_hash)
    SELECT n, (ARRAY['subtract', 'rollback'])[n - 2], 1, {HASH}, {HASH}, '{{}}', 1, 0, '[1]', {HASH},
        repeat(n::text, 64), repeat((n + 1)::text, 64), now(), CASE n WHEN 4 THEN 2 END, n - 2, 'ann', {HASH}, {HASH}
    FROM generate_series(3, 4) AS n;
    INSERT INTO statistics (revision, d_in, d_out, n, mean_norm, drift, modules)
    SELECT n, 4, 2, 20, 1, 1, 1 FROM generate_series(3, 4) AS n;
    INSERT INTO edit_events (edit_id, revision, event) VALUES (1, 3, 'reverted'), (1, 4, 'restored');
    INSERT INTO checkpoints (revision, object, bytes) VALUES (4, {HASH}, 1);
"""
KEY = f"INSERT INTO api_keys (id, name, secret_hash, scopes) VALUES ('key', 'ann', {HASH}, '[]')"
FOUND_BY = f"UPDATE edits SET prompt_hash = '{prompt_hash('where is it?')}' WHERE id = 2;"
EVENTS = FOUND_BY + "INSERT INTO edit_events (edit_id, revision, event) VALUES (1, 2, 'applied'), (2, 2, 'applied');"
OWNED_KEY = KEY.replace("scopes)", "scopes, owner)").replace("'[]')", "'[]', 'key')")
SINCE = {
    "0003": EVENTS + TAKEN_BACK,
    **dict.fromkeys(("0010", "0011", "0012"), EVENTS + TAKEN_BACK + KEY),
    "0013": EVENTS + TAKEN_BACK + OWNED_KEY,
}
ALL = [each.revision for each in ScriptDirectory("migrations").walk_revisions()]
HEAD = ALL[0]


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


@pytest.fixture(params=[each for each in ALL if each != HEAD])
def old_ledger(config: Config, settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """A ledger begun under an earlier schema, brought to the newest."""
    command.downgrade(config, "base")
    command.upgrade(config, request.param)
    with psycopg.connect(settings.database_url) as connection:
        connection.execute(OLD_LEDGER)
        connection.execute(SINCE.get(request.param, ""))
    command.upgrade(config, "head")
    command.check(config)
    return settings


async def test_a_ledger_of_an_earlier_schema_is_gone_on_with(old_ledger: Settings) -> None:
    resources = build(old_ledger, "test")
    try:
        database = resources.database
        assert await read.applied_at(database, 2) == {1: 2, 2: 2}
        assert await read.applied_at(database, 1) == {}
        head = await read.head(database)
        assert head is not None
        assert await read.applied_at(database, head.number) == {1: 2, 2: 2}
        same = await read.applied_with_prompts(database, ["where is IT?"])
        assert [record.id for record in same] == [2]
        assert [name for name, (count, _) in (await integrity.violations(database)).items() if count] == []
        held = await lease.acquire(database, "new", 60)
        assert held is not None
        [taken] = await batches.take_over_interrupted(database, held, 3)
        assert [record.id for record in taken.edits] == [3]
        replayed = await submit(database, [NewEdit("Another?", "Yes")], idempotency_key=None, quotas=Quotas(10))
        assert [record.id for record in replayed.edits] == [6]
        found = {check.name: check.wrong async for check in checks(database, resources.objects(), 200)}
        assert found["append-only"] == []
    finally:
        await resources.close()


@pytest.mark.parametrize("old_ledger", ["0001", "0002"], indirect=True)
def test_a_schema_with_nothing_taken_back_can_be_left_again(config: Config, old_ledger: Settings) -> None:
    command.downgrade(config, "0002")
    command.upgrade(config, "head")
    with psycopg.connect(old_ledger.database_url) as connection:
        assert connection.execute("SELECT count(*) FROM edits").fetchone() == (5,)


def test_a_schema_in_which_nothing_was_taught_again_can_be_left(config: Config, old_ledger: Settings) -> None:
    command.downgrade(config, "0010")
    command.upgrade(config, "head")
    command.check(config)


async def test_a_schema_in_which_an_edit_was_given_a_subject_is_not_left(config: Config, settings: Settings) -> None:
    resources = build(settings, "test")
    try:
        fact = NewEdit("Who is it?", "Ann", subject="it")
        await submit(resources.database, [fact], idempotency_key=None, quotas=Quotas(10))
    finally:
        await resources.close()
    with pytest.raises(IntegrityError, match="unused"):
        command.downgrade(config, "0011")
    command.check(config)


async def test_a_schema_in_which_a_caller_was_recorded_is_not_left(config: Config, settings: Settings) -> None:
    resources = build(settings, "test")
    try:
        fact, ann = NewEdit("Who is it?", "Ann"), Caller("0a1b2c3d", "ann")
        await submit(resources.database, [fact], idempotency_key=None, quotas=Quotas(10), asked_by=ann)
    finally:
        await resources.close()
    with pytest.raises(IntegrityError, match="unused"):
        command.downgrade(config, "0012")
    command.check(config)
