"""Whether answers are whole, say what made them, and are alike where they must be. Knows no model."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from bench.endurance.asking import Answer, Asked
from bench.endurance.questions import Question
from bench.promises import Promise

Place = tuple[int, Question]  # what decides a whole answer: the revision and the question


def of_the_stream(asked: Asked, requests: int, head: int) -> list[Promise]:
    """head: the revision after the last batch."""
    whole = [each for each in asked.answers if not each.trouble]
    troubles = [f"{each.question}: {each.trouble}" for each in asked.answers if each.trouble]
    lost = [f"{requests - len(asked.answers)} questions were never answered"] if len(asked.answers) < requests else []
    ends = Counter(each.finish_reason for each in whole)
    several = sum(len(each.revisions) > 1 for each in whole)
    return [
        Promise("every question is answered", f"{len(whole):,} of {requests:,}, {asked.refused:,} refused", lost + troubles),
        Promise(
            "no answer is cut",
            ", ".join(f"{count:,} by {name}" for name, count in sorted(ends.items())),
            [f"{each.question}: {wrong}" for each in whole if (wrong := _cut(each))],
        ),
        Promise(
            "every answer says its revisions",
            f"{several:,} of several revisions",
            [f"{each.question}: {wrong}" for each in whole if (wrong := _unsaid(each, head))],
        ),
    ]


def of_the_editing(asked: Asked, committed: int) -> Promise:
    """A run in which all answers are of one revision says nothing about changes of the weights."""
    heard = {revision for each in asked.answers for revision in each.revisions}
    too_few = [] if len(heard) > 1 else ["all answers are of one revision: ask for longer"]
    return Promise("batches are applied meanwhile", f"{committed} revisions committed, answers at {len(heard)}", too_few)


def _cut(answer: Answer) -> str:
    question = answer.question
    if found := [stop for stop in question.stop if stop in answer.text]:
        return f"{found[0]!r} is in {answer.text!r}"
    if answer.finish_reason == "length" and answer.tokens != question.max_tokens:
        return f"length, after {answer.tokens} tokens"
    if answer.finish_reason not in ("length", "stop") or not 0 < answer.tokens <= question.max_tokens:
        return f"{answer.finish_reason!r} after {answer.tokens} tokens"
    return ""


def _unsaid(answer: Answer, head: int) -> str:
    told = [revision for _, revision in answer.pieces]
    said = list(answer.revisions)
    in_order = said == sorted(set(said)) and told == sorted(told)
    if said and in_order and set(told) <= set(said) and told[-1] == said[-1] <= head:
        return ""
    return f"revisions {said}, and its pieces were of {told}; the head is {head}"


def by_place(answers: Iterable[Answer]) -> dict[Place, Counter[tuple[str, str]]]:
    """How often each text with its finish_reason was the answer, of those of one revision."""
    found: dict[Place, Counter[tuple[str, str]]] = defaultdict(Counter)
    for each in answers:
        if not each.trouble and len(each.revisions) == 1:
            found[each.revisions[0], each.question][each.text, each.finish_reason] += 1
    return found


def alike(places: Mapping[Place, Counter[tuple[str, str]]], explained: Mapping[Place, str]) -> Promise:
    """explained: of the places with more than one text, what is wrong with one of them; empty where all are ties' outcomes."""
    repeated = [place for place, texts in places.items() if texts.total() > 1]
    different = [place for place in repeated if len(places[place]) > 1]
    return Promise(
        "a question repeated at a revision is answered alike",
        f"{len(repeated):,} repeated, {len(different):,} with more than one text",
        [f"revision {place[0]}, {place[1]}: {explained[place]}" for place in different if explained[place]],
    )


def texts_of_others(places: Mapping[Place, Counter[tuple[str, str]]], least: int = 12) -> Promise:
    """A text of so many characters that two different prompts have in common at one revision, one of them once only."""
    usual: dict[tuple[int, str], set[str]] = defaultdict(set)
    for (revision, question), texts in places.items():
        for (text, _), times in texts.items():
            if times > 1 and times > texts.total() / 2:
                usual[revision, text].add(question.prompt)
    found = []
    for (revision, question), texts in places.items():
        for text, _ in texts:
            others = usual[revision, text] - {question.prompt}
            if len(text) >= least and len(texts) > 1 and others and question.prompt not in usual[revision, text]:
                found.append(f"revision {revision}, {question}: {text!r} is what {sorted(others)[0]!r} is answered with")
    return Promise("no answer is another question's", f"{len(usual):,} usual answers", found)


def revisions_of(places: Iterable[Place], several: Sequence[Answer]) -> list[int]:
    return sorted({revision for revision, _ in places} | {each.revisions[0] for each in several})
