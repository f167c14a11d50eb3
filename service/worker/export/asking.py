"""Questions for what was written and for the model it was written from, and whether the answers will do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from editor_core.answers import holds
from editor_core.export.comparison import Comparison, Question, Said, compare, say, spread
from editor_core.texts import supported_formats
from service.errors import NotExported
from service.settings import Settings
from service.worker.at_revision import ModelAtRevision, Progress
from service.worker.editors import read_canary
from service.worker.export.request import Request

EDITS_ASKED = 24


@dataclass(frozen=True, slots=True)
class Asked:
    """What the model in memory says, and what it was asked. targets: of the first questions, those that are edits' own."""

    questions: list[Question]
    targets: list[str]
    said: Said


@dataclass(frozen=True, slots=True)
class Verdict:
    """A comparison, and how many of the edits' answers say the target: of the model's own, and of what was written."""

    comparison: Comparison
    edits: int
    held_before: int
    held: int

    def __str__(self) -> str:
        held = f"{self.held} of the {self.edits} answers to edits say the target, and {self.held_before} of the model's own"
        return f"{self.comparison}; {held}"


def ask_taken(taken: ModelAtRevision, settings: Settings, progress: Progress) -> Asked:
    """Edits from the first to the last, and the canary prompts, in every format that the model has."""
    formats = supported_formats(taken.loaded.tokenizer)
    edits = [each.edit for each in spread(taken.edits, EDITS_ASKED)]
    prompts = [*(each.prompt for each in edits), *read_canary(settings).prompts]
    questions = [(prompt, format) for prompt in prompts for format in formats]
    targets = [each.target for each in edits for _ in formats]
    model, tokenizer = taken.loaded.model, taken.loaded.tokenizer
    return Asked(questions, targets, say(model, tokenizer, questions, lambda share: progress("asking the model", share)))


def ask_again(asked: Asked, model: Any, tokenizer: Any, progress: Progress) -> Verdict:
    """The same questions to what was written."""
    found = say(model, tokenizer, asked.questions, lambda share: progress("asking what was written", share))
    return Verdict(
        compare(asked.said, found, asked.questions, tokenizer),
        len(asked.targets),
        _held(asked, asked.said, tokenizer),
        _held(asked, found, tokenizer),
    )


def require(is_fine: bool, verdict: Verdict, request: Request, remedy: str = "") -> tuple[str, ...]:
    """Raises NotExported for what is not fine; a warning where that is to be accepted."""
    if is_fine:
        return ()
    if request.accept_differences:
        return ("This does not answer as the model does; it was kept because that was asked for.",)
    example = f"; for example {verdict.comparison.example}" if verdict.comparison.example else ""
    raise NotExported(
        f"what was written does not answer as the model does: {verdict}{example}. It was not kept. {remedy}"
        "--accept-differences keeps it, with these figures in its README",
        code="not_the_same",
    )


def in_words(how: str, verdict: Verdict, taken: ModelAtRevision) -> str:
    asked = f"{min(len(taken.edits), EDITS_ASKED)} of the {len(taken.edits)} edits"
    return f"{how} and asked {asked} and the canary prompts, in every format: {verdict}"


def _held(asked: Asked, said: Said, tokenizer: Any) -> int:
    answers = tokenizer.batch_decode(said.tokens[: len(asked.targets)], skip_special_tokens=True)
    return sum(
        holds(answer, target, format)
        for answer, target, (_, format) in zip(answers, asked.targets, asked.questions, strict=False)
    )
