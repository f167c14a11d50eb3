"""When a new edit takes the place of an older one about the same subject: same question, whatever its words."""

from __future__ import annotations

import pytest

from editor_core.scoped.encoder import QuestionEncoder
from editor_core.scoped.entry import Entry
from editor_core.scoped.gate import Gate
from editor_core.scoped.in_force import EditsInForce
from editor_core.scoped.record import Address

SAME = [
    ("Who owns this?", "Who is the owner of this?"),
    ("who is the mayor of this", "Who's this's mayor?"),
    ("What is the name of the mayor of this?", "What is this's mayor's name?"),
]
OTHERS = [
    ("Who is the mayor of this?", "Who is the deputy mayor of this?"),
    ("Who is the mother of this?", "Who is this the mother of?"),
    ("Who beat this?", "Who did this beat?"),
    ("Is this open?", "Is this not open?"),
    ("Where did this move to?", "Where did this move from?"),
    ("Who won this in 2019?", "Who won this in 2020?"),
    ("When was this born?", "Where was this born?"),
    ("this 几岁？", "this 是谁？"),
]


@pytest.fixture(scope="module")
def encoder() -> QuestionEncoder:
    return QuestionEncoder.load()


@pytest.mark.parametrize(("one", "other", "is_same"), [(*pair, True) for pair in SAME] + [(*pair, False) for pair in OTHERS])
def test_questions_that_words_tell_apart_are_others(one: str, other: str, is_same: bool, encoder: QuestionEncoder) -> None:
    first, second = (Gate.learn([each], [], encoder.encode) for each in (one, other))
    assert (first.is_same_question(second), second.is_same_question(first)) == (is_same, is_same)


def test_what_a_caller_calls_unrelated_is_another_question(encoder: QuestionEncoder) -> None:
    guarded = Gate.learn([SAME[0][0]], [SAME[0][1]], encoder.encode)
    assert not guarded.is_same_question(Gate.learn([SAME[0][1]], [], encoder.encode))


def test_subjects_that_share_an_alias_are_two(encoder: QuestionEncoder) -> None:
    gate = Gate.learn(["Who is the head of this?"], [], encoder.encode)
    corp, labs, alias = (Address(names, gate, (), {}) for names in (("Foo Corp", "Foo"), ("Foo Labs", "Foo"), ("Foo",)))
    state = EditsInForce.of([(1, Entry.of("01", corp)), (2, Entry.of("02", labs))])
    assert [state.same_question(each) for each in (corp, labs, alias)] == [(1,), (2,), (1, 2)]
