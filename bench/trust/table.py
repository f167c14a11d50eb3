"""The rows as a markdown table, and a few lines about the edits."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from bench.quality.intervals import wilson
from bench.trust.editing import Edited
from bench.trust.measuring import Measured
from bench.trust.rows import Row

HEADER = "| asked | share | 95 % interval | answers | target | met |\n|---|---|---|---|---|---|"
MET = {True: "yes", False: "**no**", None: ""}
SHOWN = 10  # failures


def markdown(title: str, measured: Measured) -> str:
    """Everything to read at a glance. Intervals take answers to be independent."""
    rows = [row for row in measured.rows if row.judged]
    lines = [f"## {title}", "", HEADER, *map(_line, rows), "", verdict(rows), ""]
    lines += described("edits", measured.edited)
    lines += described("edits of groups", measured.of_groups)
    return "\n".join(lines)


def verdict(rows: Sequence[Row]) -> str:
    """How many targets are met, and the rows whose targets are not."""
    judged = [row for row in rows if row.met is not None]
    missed = [row.name for row in judged if not row.met]
    words = f"{len(judged) - len(missed)} of {len(judged)} targets are met"
    return f"{words}; not: {'; '.join(missed)}." if missed else f"{words}."


def described(what: str, edited: Edited) -> list[str]:
    """States, seconds a batch, and the first failures with their reasons."""
    if not edited.edits:
        return []
    states = ", ".join(f"{count} {state}" for state, count in sorted(edited.states.items()))
    seconds = edited.batch_seconds
    per_edit = sum(seconds) / len(edited.edits)
    lines = [
        f"- {what}: {states}; {len(seconds)} requests, from 202 to settled "
        f"{statistics.median(seconds):.1f} s (median), {max(seconds):.1f} s (longest), "
        f"{per_edit:.1f} s an edit",
    ]
    for failure in edited.failures[:SHOWN]:
        reason = failure["reason"] or {}
        words = f"{reason.get('code', '')} {reason.get('detail', '')}".strip()
        lines.append(f"  - failed: {failure['prompt']} → {failure['target']}: {words}")
    if len(edited.failures) > SHOWN:
        lines.append(f"  - and {len(edited.failures) - SHOWN} more")
    return lines


def _line(row: Row) -> str:
    share = row.share
    low, high = wilson(share.successes, share.trials)
    wanted = row.target.words if row.target else ""
    cells = (
        row.name,
        f"{share.value:.2f}",
        f"{low:.2f} – {high:.2f}",
        str(share.trials),
        wanted,
        MET[row.met],
    )
    return "| " + " | ".join(cells) + " |"
