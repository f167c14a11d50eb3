"""The facts to edit, as files have them."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NEEDED = ("subject", "prompt", "target")


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact.

    rephrase           the other wording that is judged; None: there is none to judge
    posted             other wordings that are posted with the edit, as a caller would
    unrelated_prompt   a question about something else, which comes with the fact
    """

    subject: str
    prompt: str
    target: str
    rephrase: str | None = None
    posted: tuple[str, ...] = ()
    unrelated_prompt: str | None = None


def read_facts(path: Path, start: int = 0, count: int | None = None, posted: int = 0) -> list[Fact]:
    """At most `count` facts from number `start` (from 0) on of a JSON list; None: all.

    `posted` is how many rephrases go with each edit. Raises SystemExit for a fact that lacks
    something, and where there is no fact at all.
    """
    rows = json.loads(path.read_text(encoding="utf-8"))
    chosen = rows[start:] if count is None else rows[start : start + count]
    if not chosen:
        raise SystemExit(f"{path.name} has no fact from number {start} on")
    named = [(f"fact {number} of {path.name}", row) for number, row in enumerate(chosen, start)]
    return [_fact(row, name, posted) for name, row in named]


def apart_from(others: Sequence[Fact], facts: Sequence[Fact]) -> list[Fact]:
    """Those of `others` that name no subject of `facts`, whatever the letters' case."""
    edited = {folded(fact.subject) for fact in facts}

    def is_apart(other: Fact) -> bool:
        words = folded(" ".join((other.subject, other.prompt, other.unrelated_prompt or "")))
        return not any(subject in words for subject in edited)

    return [other for other in others if is_apart(other)]


def folded(text: str) -> str:
    """The text as it is compared: NFC, case-folded, emoji without their variant."""
    return unicodedata.normalize("NFC", text).replace("\ufe0f", "").casefold()


def _fact(row: Mapping[str, Any], which: str, posted: int) -> Fact:
    if missing := [name for name in NEEDED if not str(row.get(name) or "").strip()]:
        raise SystemExit(f"{which} lacks {', '.join(missing)}")
    judged, given = _rephrases(row, posted)
    needed = {name: row[name] for name in NEEDED}
    unrelated = row.get("unrelated_prompt")
    return Fact(**needed, rephrase=judged, posted=given, unrelated_prompt=unrelated)


def _rephrases(row: Mapping[str, Any], posted: int) -> tuple[str | None, tuple[str, ...]]:
    """The one to judge and those to post. One that is posted is not judged."""
    known = [row.get("rephrase"), *row.get("rephrases", ())]
    every = list(dict.fromkeys(each for each in known if each and each != row["prompt"]))
    if not posted:
        return (every[0] if every else None), ()
    if len(every) < 2:
        return None, tuple(every)
    return every[0], tuple(every[1 : 1 + posted])
