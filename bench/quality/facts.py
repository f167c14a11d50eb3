"""The facts to edit, each with the questions that tell whether it was learnt."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact to edit. The rephrase wants the same target; the unrelated question is about something else."""

    prompt: str
    target: str
    rephrase: str
    unrelated_prompt: str
    unrelated_target: str
    portability_prompt: str
    portability_target: str

    def questions(self) -> dict[str, tuple[str, str]]:
        """By kind: a question and what it should now be answered with."""
        return {
            "prompt": (self.prompt, self.target),
            "rephrase": (self.rephrase, self.target),
            "portability": (self.portability_prompt, self.portability_target),
        }


def read_facts(path: Path, start: int, count: int) -> list[Fact]:
    """`count` facts from number `start` (from 0) of a JSON list. SystemExit when there are fewer, or one lacks a field."""
    wanted = [field.name for field in fields(Fact)]
    chosen = json.loads(path.read_text(encoding="utf-8"))[start : start + count]
    if len(chosen) < count:
        raise SystemExit(f"{path.name} holds {len(chosen)} facts from number {start} on; {count} were asked for")
    for number, each in enumerate(chosen, start):
        if missing := [name for name in wanted if not str(each.get(name) or "").strip()]:
            raise SystemExit(f"fact {number} of {path.name} lacks {', '.join(missing)}")
    return [Fact(**{name: each[name] for name in wanted}) for each in chosen]
