"""Is everything that was accepted there, once, and is the model what the ledger says? With questions of its own to the tables.

What must be applied is worked out here once more, from the revisions in order, and not read from the states that are checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.chaos.client import POISON, TOO_MANY_TOKENS, Asked

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One promise, and how it was broken."""

    promise: str
    figure: str
    broken: list[str] = field(default_factory=list)


class Ledger:
    """Everything in the tables, read once."""

    def __init__(self, url: str) -> None:
        with psycopg.connect(url, row_factory=dict_row) as connection:
            for name in ("submissions", "edits", "operations", "revisions", "edit_events", "statistics"):
                setattr(self, name, connection.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall())
        self.edit: dict[int, Row] = {row["id"]: row for row in self.edits}
        self.operation: dict[int, Row] = {row["id"]: row for row in self.operations}

    submissions: list[Row]
    edits: list[Row]
    operations: list[Row]
    revisions: list[Row]
    edit_events: list[Row]
    statistics: list[Row]


def verdicts(url: str, asked: Sequence[Asked], answered_wrong: Sequence[str]) -> Iterator[Verdict]:
    """What the tables alone can tell."""
    ledger = Ledger(url)
    yield Verdict("every answer is a clean one", f"{len(asked)} requests", list(answered_wrong))
    yield Verdict("accepted is kept, once, and nothing else", f"{len(ledger.edits)} edits", list(_kept(ledger, asked)))
    yield Verdict("every edit has an end", _counted(ledger.edits), list(_ended(ledger.edits, "edit")))
    yield Verdict("what cannot be taught fails for that reason", *_unteachable(ledger))
    yield Verdict("every operation has an end", _counted(ledger.operations), list(_ended(ledger.operations, "operation")))
    yield Verdict("applied once", f"{len(ledger.edit_events)} events", list(_once(ledger)))
    yield Verdict("what is applied follows from the revisions", f"{len(ledger.revisions)} revisions", list(_history(ledger)))
    yield Verdict("n is the sum of the tokens", _samples(ledger), list(_tokens(ledger)))


def _kept(ledger: Ledger, asked: Sequence[Asked]) -> Iterator[str]:
    by_key: dict[str, list[Row]] = {}
    for row in ledger.submissions:
        by_key.setdefault(row["idempotency_key"], []).append(row)
    edits: dict[int, list[Row]] = {}
    for row in ledger.edits:
        edits.setdefault(row["submission_id"], []).append(row)
    operations = {row["submission_id"]: row for row in ledger.operations}
    for each in asked:
        rows = by_key.pop(each.key, [])
        if each.status != 202:
            if rows or not each.status:
                yield f"key {each.key}: answered {each.status or 'never'}, and {len(rows)} are in the ledger"
        elif len(rows) != 1:
            yield f"key {each.key}: accepted, and {len(rows)} times in the ledger"
        elif each.path == "/edits":
            assert each.body is not None
            found = [(row["id"], row["prompt"], row["target"]) for row in edits.pop(rows[0]["id"], [])]
            facts = zip(each.answer["ids"], each.body["edits"], strict=True)
            if found != [(edit_id, fact["prompt"], fact["target"]) for edit_id, fact in facts]:
                yield f"key {each.key}: its edits are not those that were accepted: {found}"
        elif operations.pop(rows[0]["id"], {"id": None})["id"] != each.answer["id"]:
            yield f"key {each.key}: its operation is another"
    yield from (f"nobody asked for key {key}" for key in by_key)
    yield from (f"nobody asked for submission {each}" for each in (*edits, *operations))


def _counted(rows: Sequence[Row]) -> str:
    counts = Counter(row["state"] for row in rows)
    reasons = Counter(row["failure_code"] for row in rows if row["state"] == "failed")
    named = f" ({', '.join(f'{count} {code}' for code, count in reasons.items())})" if reasons else ""
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) + named


def _ended(rows: Sequence[Row], what: str) -> Iterator[str]:
    for row in rows:
        if row["state"] in ("accepted", "applying"):
            yield f"{what} {row['id']} is still {row['state']}"
        if row["state"] == "failed" and not (row["failure_code"] and row["failure_detail"]):
            yield f"{what} {row['id']} failed without a reason"


def _unteachable(ledger: Ledger) -> tuple[str, list[str]]:
    """(how many there were, those that did not fail for their own reason)."""
    reasons = {"not_encodable": TOO_MANY_TOKENS, "attempts_exhausted": POISON}
    wrong, counts = [], Counter[str]()
    for row in ledger.edits:
        for code, words in reasons.items():
            is_such = words in row["target"] or words in row["prompt"]
            counts[code] += is_such
            if is_such and row["failure_code"] != code:
                wrong.append(f"edit {row['id']} is {row['state']} ({row['failure_code']}): {row['prompt'][:60]}")
    return ", ".join(f"{count} {code}" for code, count in counts.items()), wrong


def _failed_at(ledger: Ledger) -> dict[int, set[int]]:
    """By revision: edits that it found not to hold any more."""
    found: dict[int, set[int]] = {}
    for row in ledger.edit_events:
        if row["event"] == "failed":
            found.setdefault(row["revision"], set()).add(row["edit_id"])
    return found


def _once(ledger: Ledger) -> Iterator[str]:
    """In the events, and in the revisions' own lists, which are hashed."""
    events = Counter(row["edit_id"] for row in ledger.edit_events if row["event"] == "applied")
    lists = Counter(edit for row in ledger.revisions if row["kind"] == "edit" for edit in row["edit_ids"])
    operations = Counter(row["operation_id"] for row in ledger.revisions if row["operation_id"] is not None)
    failed_later = set().union(*_failed_at(ledger).values())
    for row in ledger.edits:
        wanted = 0 if row["state"] == "failed" and row["id"] not in failed_later else 1
        if (events[row["id"]], lists[row["id"]]) != (wanted, wanted):
            yield f"edit {row['id']} is {row['state']}, with {events[row['id']]} events, in {lists[row['id']]} revisions"
    for row in ledger.operations:
        if operations[row["id"]] != (1 if row["state"] == "applied" else 0):
            yield f"operation {row['id']} is {row['state']}, with {operations[row['id']]} revisions"


def _in_the_weights(ledger: Ledger) -> list[set[int]]:
    """The edits in the weights at each revision, worked out from what each revision is."""
    at: list[set[int]] = []
    failed_at = _failed_at(ledger)
    for row in ledger.revisions:
        now = set(at[-1]) if at else set()
        operation = ledger.operation.get(row["operation_id"], {})
        match row["kind"]:
            case "edit":
                prompts = {ledger.edit[each]["prompt"] for each in row["edit_ids"]}
                now = {each for each in now if ledger.edit[each]["prompt"] not in prompts} | set(row["edit_ids"])
            case "subtract":
                now.discard(operation["edit_id"])
            case "rollback":
                now = set(at[row["source"]])
            case "rebuild":
                now -= set(operation["without"])
        at.append(now - failed_at.get(row["number"], set()))
    return at


def _history(ledger: Ledger) -> Iterator[str]:
    at = _in_the_weights(ledger)
    for number, row in enumerate(ledger.revisions):
        if row["number"] != number:
            yield f"revision {row['number']} is the {number}th"
            return
        operation = ledger.operation.get(row["operation_id"], {})
        if row["kind"] == "subtract" and operation["edit_id"] not in at[number - 1]:
            yield f"revision {number} takes out edit {operation['edit_id']}, which was not in"
        if row["kind"] == "rollback":
            if operation["to_revision"] != row["source"]:
                yield f"revision {number} goes back to {row['source']}, not {operation['to_revision']}"
            if row["fingerprint"] != ledger.revisions[row["source"]]["fingerprint"]:
                yield f"revision {number} has not the fingerprint of {row['source']}"
    applied = {row["id"] for row in ledger.edits if row["state"] == "applied"}
    if at and applied != at[-1]:
        yield f"applied though taken out: {sorted(applied - at[-1])}; not applied though in: {sorted(at[-1] - applied)}"


def _samples(ledger: Ledger) -> str:
    head = len(ledger.revisions) - 1
    return ", ".join(f"{row['d_in']}x{row['d_out']}: {row['n']}" for row in ledger.statistics if row["revision"] == head)


def _tokens(ledger: Ledger) -> Iterator[str]:
    """From the warm-up's, along each revision's own path."""
    at, begun = _in_the_weights(ledger), max((row["number"] for row in ledger.revisions if row["kind"] == "warmup"), default=0)
    by_batch: Counter[int] = Counter()
    for row in ledger.edits:
        by_batch[row["batch_id"]] += row["tokens"] or 0
    for shape in {(row["d_in"], row["d_out"]) for row in ledger.statistics}:
        known = {row["revision"]: row for row in ledger.statistics if (row["d_in"], row["d_out"]) == shape}
        n: dict[int, int] = {}
        for row in ledger.revisions:
            number, found = row["number"], known.get(row["number"])
            match row["kind"]:
                case "edit":
                    assert found is not None
                    n[number] = n[number - 1] + found["modules"] * by_batch[row["batch_id"]]
                case "subtract":
                    n[number] = n[number - 1]
                case "rollback":
                    n[number] = n[row["source"]]
                case "rebuild":
                    assert found is not None
                    n[number] = n[begun] + found["modules"] * sum(ledger.edit[each]["tokens"] for each in at[number])
                case _:
                    n[number] = found["n"] if found else 0
            if found is not None and found["n"] != n[number]:
                yield f"revision {number}, {shape}: n is {found['n']}, the tokens make {n[number]}"
