"""Subjects of many edits: those of real facts as far as they reach, then made up."""

from __future__ import annotations

import json
from pathlib import Path


def first_facts(data: Path | None, count: int) -> list[tuple[str, str]]:
    """(prompt, target) of real facts of different subjects, each with the target of another; made up without a file."""
    rows = json.loads(data.read_text(encoding="utf-8")) if data else []
    known = {row["subject"]: row for row in rows}
    chosen = list(known.values())[:count]
    if not chosen:
        return [(f"Who owns Castle Orwin{number}?", f"Maren Voss the {number}th") for number in range(4, 4 + count)]
    others = chosen[1:] + chosen[:1]
    return [(row["prompt"].replace("{}", row["subject"]), other["target"]) for row, other in zip(chosen, others, strict=True)]


def names(data: Path | None, size: int) -> list[str]:
    """Of so many edits; several real facts may have one subject."""
    real = [row["subject"] for row in json.loads(data.read_text(encoding="utf-8"))] if data else []
    return (real + [f"Kelm{number:x} Vard{number * 7919 % 65521:x}" for number in range(size)])[:size]
