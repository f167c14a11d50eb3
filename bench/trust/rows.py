"""Rows of the result: judged answers, the share of those that count, and what it is to be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from bench.quality.intervals import Share
from bench.quality.targets import Target
from bench.trust.asking import Answer, Question


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer.

    prompt    the fact's own, where the question is about one
    targets   what was to be said, or was not to be said
    before    what was said without the edits, where that was asked
    right     whether this is what a user wants
    """

    question: Question
    answer: Answer
    right: bool
    prompt: str = ""
    targets: tuple[str, ...] = ()
    before: Answer | None = None

    def as_json(self, row: str) -> dict[str, Any]:
        """Everything, in full."""
        found: dict[str, Any] = {
            "way": row,
            "prompt": self.prompt,
            "question": self.question,
            "targets": list(self.targets),
            "answer": self.answer.text,
            "finish_reason": self.answer.finish_reason,
            "right": self.right,
        }
        if self.answer.error:
            found["error"] = self.answer.error
        return found | ({"before": self.before.text} if self.before else {})


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    counts_wrong   the share is that of the wrong answers: leaks, loops
    """

    name: str
    judged: tuple[Judged, ...] = field(repr=False)
    target: Target | None = None
    counts_wrong: bool = False

    @classmethod
    def of(
        cls,
        name: str,
        judged: Iterable[Judged],
        target: Target | None = None,
        counts_wrong: bool = False,
    ) -> Row:
        return cls(name, tuple(judged), target, counts_wrong)

    @property
    def share(self) -> Share:
        """Of the right answers, or of the wrong ones where these are counted."""
        return Share.of(each.right != self.counts_wrong for each in self.judged)

    @property
    def met(self) -> bool | None:
        """Whether the share keeps its target; None where there is none, or no answer."""
        if self.target is None or not self.judged:
            return None
        return self.target.met(self.share.value)

    def wrong(self) -> list[dict[str, Any]]:
        """Every wrong answer in full."""
        return [each.as_json(self.name) for each in self.judged if not each.right]
