"""Everything that is kept of one run, as JSON: figures, every wrong answer, some whole answers."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.measure import machine
from bench.trust.editing import Edited
from bench.trust.measuring import Measured
from bench.trust.rows import Row

SAMPLES = 10  # whole answers of a row, drawn for reading by eye


def report(measured: Measured, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """One object. `seed` says which answers are drawn; rows are as in the table."""
    rows = [row for row in measured.rows if row.judged]
    chance = random.Random(seed)
    return {
        "machine": machine(),
        "settings": dict(settings),
        "seconds": measured.seconds,
        "rows": {row.name: _figures(row) for row in rows},
        "edits": _edits(measured.edited),
        "edits_of_groups": _edits(measured.of_groups),
        "wrong": {row.name: wrong for row in rows if (wrong := row.wrong())},
        "samples": {row.name: _drawn(row, chance) for row in rows if not row.counts_wrong},
    }


def write_report(path: Path, found: Mapping[str, Any]) -> None:
    """In UTF-8 and with the letters themselves, to be read by eye."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _figures(row: Row) -> dict[str, Any]:
    wanted = row.target.words if row.target else None
    return {**row.share.as_json(), "target": wanted, "met": row.met}


def _drawn(row: Row, chance: random.Random) -> list[dict[str, Any]]:
    some = chance.sample(row.judged, min(SAMPLES, len(row.judged)))
    return [each.as_json(row.name) for each in some]


def _edits(edited: Edited) -> dict[str, Any]:
    return {
        "states": edited.states,
        "batch_seconds": list(edited.batch_seconds),
        "failures": edited.failures,
        "edits": list(edited.edits),
    }
