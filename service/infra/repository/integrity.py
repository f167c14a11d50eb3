"""What must always be true of the ledger, as queries that must return nothing."""

from __future__ import annotations

from sqlalchemy import text

from service.infra.repository.rows import Rows

# Each returns what is wrong, in words.
INVARIANTS = {
    "numbers_without_gap": """
        SELECT 'there are ' || count(*) || ' revisions and the head is ' || max(number) FROM revisions
        HAVING count(*) <> coalesce(max(number) + 1, 0)
    """,
    "applied_has_event": """
        SELECT 'edit ' || edits.id || ' is applied, and its last event says otherwise' FROM edits
        WHERE state = 'applied' AND coalesce((
            SELECT event FROM edit_events WHERE edit_id = edits.id ORDER BY revision DESC LIMIT 1
        ), '') NOT IN ('applied', 'restored')
    """,
    "ended_has_event": """
        SELECT 'edit ' || edits.id || ' is ' || state || ', and revision ' || ended_by || ' has no such event' FROM edits
        WHERE state IN ('reverted', 'superseded') AND NOT EXISTS (
            SELECT 1 FROM edit_events WHERE edit_id = edits.id AND revision = ended_by AND event = edits.state
        )
    """,
    "event_has_state": """
        SELECT 'edit ' || last.edit_id || ' was last ' || event || ', and is ' || state
        FROM (SELECT DISTINCT ON (edit_id) edit_id, event FROM edit_events ORDER BY edit_id, revision DESC) AS last
        JOIN edits ON edits.id = last.edit_id
        WHERE state <> CASE event WHEN 'restored' THEN 'applied' ELSE event END
    """,
    "applied_once": """
        SELECT 'edit ' || edit_id || ' was put into the weights by revision ' || revision || ' while it was in them'
        FROM (
            SELECT edit_id, revision, event, lag(event) OVER (PARTITION BY edit_id ORDER BY revision) AS before FROM edit_events
        ) AS events
        WHERE event IN ('applied', 'restored') AND before IN ('applied', 'restored')
    """,
    "one_answer_a_prompt": """
        SELECT 'edits ' || string_agg(id::text, ', ' ORDER BY id) || ' are applied for one prompt' FROM edits
        WHERE state = 'applied' AND prompt_hash IS NOT NULL AND finished_at > (
            SELECT coalesce(min(created_at), 'infinity') FROM revisions WHERE events_hash IS NOT NULL
        )
        GROUP BY prompt_hash HAVING count(*) > 1
    """,
    "batches_finished": """
        SELECT 'batch ' || batches.id || ' is ' || batches.state || ' and edit ' || edits.id || ' of it is still applying'
        FROM batches JOIN edits ON edits.batch_id = batches.id
        WHERE edits.state = 'applying' AND batches.state <> 'applying'
    """,
    "batch_has_edits": """
        SELECT 'batch ' || id || ' is being applied and has no edits' FROM batches
        WHERE state = 'applying' AND NOT EXISTS (SELECT 1 FROM edits WHERE batch_id = batches.id AND edits.state = 'applying')
    """,
    "committed_batch_has_revision": """
        SELECT 'batch ' || id || ' is committed, and no revision is of it' FROM batches
        WHERE state = 'committed' AND NOT EXISTS (SELECT 1 FROM revisions WHERE batch_id = batches.id)
    """,
    "statistics_are_the_tokens": """
        SELECT 'revision ' || now.revision || ' has n = ' || now.n || ' for ' || now.d_in || 'x' || now.d_out
            || ', and its edits have ' || tokens.sum || ' tokens in ' || now.modules || ' modules after n = ' || before.n
        FROM statistics AS now
        JOIN revisions ON revisions.number = now.revision AND revisions.kind = 'edit'
        JOIN statistics AS before
            ON before.revision = now.revision - 1 AND before.d_in = now.d_in AND before.d_out = now.d_out
        CROSS JOIN LATERAL (
            SELECT sum(coalesce(tokens, 0)) AS sum, bool_and(tokens IS NOT NULL OR state = 'failed') AS known
            FROM edits WHERE batch_id = revisions.batch_id
        ) AS tokens
        WHERE now.modules IS NOT NULL AND tokens.known AND now.n - before.n <> now.modules * tokens.sum
    """,
    "statistics_of_a_rollback": """
        SELECT 'revision ' || now.revision || ' is a rollback to ' || revisions.source || ' with other statistics'
        FROM statistics AS now JOIN revisions ON revisions.number = now.revision AND revisions.kind = 'rollback'
        LEFT JOIN statistics AS before
            ON before.revision = revisions.source AND before.d_in = now.d_in AND before.d_out = now.d_out
        WHERE before.n IS DISTINCT FROM now.n
    """,
    "operation_has_revision": """
        SELECT 'operation ' || operations.id || ' is applied, and revision ' || operations.revision || ' is not its own'
        FROM operations LEFT JOIN revisions ON revisions.operation_id = operations.id
        WHERE operations.state = 'applied' AND revisions.number IS DISTINCT FROM operations.revision
    """,
}

TRIGGERS = (
    "revisions_append_only",
    "statistics_append_only",
    "edit_events_append_only",
    "edits_kept",
    "edits_as_submitted",
)
SHOWN = 5


class IntegrityRows(Rows):
    async def violations(self, invariant: str) -> tuple[int, list[str]]:
        """(how many, the first few in words)."""
        found = list((await self._connection.execute(text(INVARIANTS[invariant]))).scalars())
        return len(found), [str(each) for each in found[:SHOWN]]

    async def missing_triggers(self) -> list[str]:
        """Those that refuse changes to history and are not there, or are switched off."""
        statement = text("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled IN ('O', 'A')")
        there = set((await self._connection.execute(statement)).scalars())
        return [name for name in TRIGGERS if name not in there]
