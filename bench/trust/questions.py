"""Questions whose answers must stay as they are without the edits."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from bench.trust.asking import Question
from bench.trust.facts import Fact, folded
from bench.trust.ways import Kind, turn, user

# Tokens of an answer: the forerunner's, so that shares can be compared.
SAME_TOKENS: dict[Kind, int] = {"plain": 12, "chat": 24}
OTHER_TOKENS: dict[Kind, int] = {"plain": 24, "chat": 48}
TELL_TOKENS, LATER_TOKENS = 64, 24

FOUR: dict[str, tuple[str, ...]] = {  # the forerunner's, without stems: they are always asked
    "Where is {} located?": (),
    "What is {} best known for?": (),
    "Who founded or created {}?": (),
    "Is {} expensive?": (),
}
# By question, the beginnings of words with which an edit may ask the same; it is left out then.
TWELVE: dict[str, tuple[str, ...]] = {
    "Who is the owner of {}?": ("own", "belong", "possess"),
    "In which language is {} usually discussed?": ("language", "tongue", "speak", "spoke"),
    "What happened to {} last year?": ("happen",),
    "Why do people talk about {}?": ("why",),
    "How is the name {} pronounced?": ("pronounc",),
    "Does {} have a website?": ("website", "address"),
    "What do critics say about {}?": ("critic", "review"),
    "How many people have heard of {}?": ("many",),
    "On which continent would I find {}?": (
        *("where", "continent", "country", "state", "city", "town", "land"),
        *("place", "locat", "birthplace", "constellation"),
    ),
    "In which century did {} begin?": (
        *("when", "year", "date", "century", "born", "birth", "begin", "start", "found", "built"),
    ),
    "What is {} made of?": ("made", "material", "consist"),
    "Who are the rivals of {}?": ("rival", "compet", "opponent", "fight", "fought", "war"),
}
SAME = {f"same subject ({len(each)} questions)": each for each in (FOUR, TWELVE)}
OTHERS, TELL, LATER = "others", "tell me about", "same question about another, a turn later"
KINDS: tuple[Kind, ...] = ("plain", "chat")


@dataclass(frozen=True, slots=True)
class Staying:
    """Questions of one sort.

    targets      of each question the edit's target that must not be said; empty: none is near
    max_tokens   of an answer
    """

    name: str
    kind: Kind
    questions: tuple[Question, ...]
    targets: tuple[str, ...]
    max_tokens: int


def staying(facts: Sequence[Fact], others: Sequence[Fact]) -> list[Staying]:
    """All sorts of them. `others` are facts that are not edited, about other subjects."""
    found = list[Staying]()
    for name, templates in SAME.items():
        asked = same_subject(facts, templates)
        found += _in_kinds(name, asked, SAME_TOKENS)
    about_others = [(text, "") for text in _prompts(others)]
    found += _in_kinds(OTHERS, about_others, OTHER_TOKENS)
    tell = [(f"Tell me about {fact.subject}.", "") for fact in facts]
    return [*found, _in_kind(TELL, "chat", tell, TELL_TOKENS), _a_turn_later(facts, others)]


def same_subject(
    facts: Sequence[Fact],
    templates: dict[str, tuple[str, ...]],
) -> list[tuple[str, str]]:
    """(Question, target) for each fact and template, but for those that an edit may answer."""
    asked_of: dict[str, list[str]] = defaultdict(list)
    for fact in facts:
        wordings = (fact.prompt, fact.rephrase, *fact.posted)
        asked_of[folded(fact.subject)] += [folded(each) for each in wordings if each]
    return [
        (template.format(fact.subject), fact.target)
        for fact in facts
        for template, stems in templates.items()
        if not _is_answered(template, stems, fact.subject, asked_of[folded(fact.subject)])
    ]


def _is_answered(template: str, stems: tuple[str, ...], subject: str, asked: list[str]) -> bool:
    if folded(template.format(subject)) in asked:
        return True
    words = re.findall(r"\w+", " ".join(each.replace(folded(subject), " ") for each in asked))
    return bool(stems) and any(word.startswith(stems) for word in words)


def _prompts(others: Sequence[Fact]) -> list[str]:
    unrelated = [other.unrelated_prompt for other in others if other.unrelated_prompt]
    return [*(other.prompt for other in others), *unrelated]


def _in_kinds(
    name: str,
    asked: Sequence[tuple[str, str]],
    max_tokens: dict[Kind, int],
) -> list[Staying]:
    return [_in_kind(f"{name}, {kind}", kind, asked, max_tokens[kind]) for kind in KINDS]


def _in_kind(name: str, kind: Kind, asked: Sequence[tuple[str, str]], max_tokens: int) -> Staying:
    questions = tuple(text if kind == "plain" else user(text) for text, _ in asked)
    targets = tuple(target for _, target in asked if target)
    return Staying(name, kind, questions, targets, max_tokens)


def _a_turn_later(facts: Sequence[Fact], others: Sequence[Fact]) -> Staying:
    """The edit's own question and answer, then the same question about somebody else."""
    named = [fact for fact in facts if fact.subject in fact.prompt] if others else []
    questions = []
    for number, fact in enumerate(named):
        other = fact.prompt.replace(fact.subject, others[number % len(others)].subject)
        questions.append((*user(fact.prompt), turn("assistant", fact.target), *user(other)))
    targets = tuple(fact.target for fact in named)
    return Staying(LATER, "chat", tuple(questions), targets, LATER_TOKENS)
