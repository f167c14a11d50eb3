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
        ), '') NOT IN ('applied', 'taught_again', 'restored')
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
        WHERE state <> CASE WHEN event IN ('restored', 'taught_again') THEN 'applied' ELSE event END
    """,
    "event_has_rows": """
        SELECT 'edit ' || edit_id || ' has an event at revision ' || edit_events.revision || ', and '
            || CASE WHEN edits.id IS NULL THEN 'the edit' ELSE 'the revision' END || ' is missing'
        FROM edit_events LEFT JOIN edits ON edits.id = edit_id LEFT JOIN revisions ON number = edit_events.revision
        WHERE edits.id IS NULL OR number IS NULL
    """,
    "revision_has_taught": """
        SELECT 'edit ' || edits.id || ' is said to be of revision ' || edits.revision || ', and revision '
            || last.taught_at || ' has taught it'
        FROM edits CROSS JOIN LATERAL (
            SELECT CASE event WHEN 'restored' THEN coalesce(taught_at, (
                SELECT revision FROM edit_events AS first WHERE first.edit_id = edits.id AND first.event = 'applied'
            )) ELSE revision END AS taught_at
            FROM edit_events
            WHERE edit_id = edits.id AND event IN ('applied', 'taught_again', 'restored')
            ORDER BY edit_events.revision DESC LIMIT 1
        ) AS last
        WHERE edits.revision <> last.taught_at
    """,
    "accepted_is_untouched": """
        SELECT 'edit ' || id || ' is accepted, and was taken already' FROM edits
        WHERE state = 'accepted' AND (batch_id IS NOT NULL OR finished_at IS NOT NULL)
    """,
    "applied_once": """
        SELECT 'edit ' || edit_id || ' was put into the weights by revision ' || revision || ' while it was in them'
        FROM (
            SELECT edit_id, revision, event, taught_at,
                lag(event) OVER each AS before, lag(taught_at) OVER each AS taught_before
            FROM edit_events WINDOW each AS (PARTITION BY edit_id ORDER BY revision)
        ) AS events
        WHERE (event = 'applied' AND before IS NOT NULL)
            OR (event = 'restored' AND before = 'applied')
            OR (event = 'restored' AND before = 'restored' AND taught_at IS NOT DISTINCT FROM taught_before)
            OR (event = 'taught_again' AND coalesce(before, '') NOT IN ('applied', 'taught_again', 'restored'))
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
    "edit_has_batch": """
        SELECT 'edit ' || edits.id || ' is of batch ' || coalesce(batch_id::text, 'none') || ', which is not there' FROM edits
        LEFT JOIN batches ON batches.id = batch_id
        WHERE batches.id IS NULL AND (batch_id IS NOT NULL OR edits.revision IS NOT NULL)
    """,
    "revision_has_batch": """
        SELECT 'revision ' || number || ' is of batch ' || revisions.batch_id || ', which is '
            || coalesce(batches.state || ' since epoch ' || batches.epoch, 'not there')
            || ' (of the revision: ' || revisions.epoch || ')'
        FROM revisions LEFT JOIN batches ON batches.id = revisions.batch_id
        WHERE revisions.batch_id IS NOT NULL
            AND (batches.state IS DISTINCT FROM 'committed' OR batches.epoch <> revisions.epoch)
    """,
    "batch_of_its_revision": """
        SELECT 'edit ' || edits.id || ' was applied by revision ' || number || ', and is not of its batch '
            || revisions.batch_id
        FROM edit_events JOIN revisions ON number = edit_events.revision JOIN edits ON edits.id = edit_events.edit_id
        WHERE event = 'applied' AND edits.batch_id IS DISTINCT FROM revisions.batch_id
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
    "revision_has_operation": """
        SELECT 'revision ' || number || ' is of operation ' || operation_id || ', which '
            || CASE WHEN id IS NULL THEN 'is not there' ELSE 'says otherwise' END
        FROM revisions LEFT JOIN operations ON operations.id = operation_id
        WHERE operation_id IS NOT NULL AND (
            operations.state IS DISTINCT FROM 'applied' OR operations.kind <> revisions.kind
            OR operations.actor <> revisions.actor OR operations.reason IS DISTINCT FROM revisions.reason
        )
    """,
    "edit_has_caller": """
        SELECT 'edit ' || edits.id || ' is of another caller than submission ' || submission_id FROM edits
        JOIN submissions ON submissions.id = submission_id
        WHERE edits.key_id <> submissions.key_id OR edits.actor <> submissions.actor
    """,
    "operation_has_caller": """
        SELECT 'operation ' || operations.id || ' is of another caller than submission ' || submission_id FROM operations
        JOIN submissions ON submissions.id = submission_id
        WHERE operations.key_id <> submissions.key_id
            OR (submissions.actor <> '' AND operations.actor <> submissions.actor)
    """,
    "lease_is_newest": """
        SELECT 'the writer lease ' || coalesce('has epoch ' || lease.epoch, 'is missing') || ', and the revisions have '
            || newest.epoch
        FROM (SELECT max(epoch) AS epoch FROM revisions) AS newest LEFT JOIN writer_lease AS lease ON true
        WHERE newest.epoch > coalesce(lease.epoch, 0)
    """,
    "checkpoint_has_revision": """
        SELECT 'the checkpoint of revision ' || revision || ' is of no revision' FROM checkpoints
        LEFT JOIN revisions ON number = revision WHERE number IS NULL
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
    "submissions_append_only",
    "operations_kept",
    "operations_as_asked",
    "batches_kept",
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
