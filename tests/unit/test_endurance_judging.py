"""What the judge of a long run calls cut, unsaid, different and somebody else's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.endurance.asking import Answer, Asked
from bench.endurance.judging import alike, by_place, of_the_editing, of_the_stream, texts_of_others
from bench.endurance.questions import Question

QUESTION = Question("Who led Lake Tantrum?", chat=True, max_tokens=3, stop=(".",))
OTHER = replace(QUESTION, prompt="Who led Lake Temper?")
GOOD = Answer(QUESTION, [("Odessa", 4), (" it was", 4)], (4,), "length", 3)


def broken(*answers: Answer, head: int = 5) -> list[str]:
    return [each.name for each in of_the_stream(Asked(list(answers)), len(answers), head) if each.broken]


def test_whole_answers_break_no_promise() -> None:
    of_two = replace(GOOD, pieces=[("Odessa", 4), (" it was", 5)], revisions=(4, 5))
    stopped = replace(GOOD, finish_reason="stop", tokens=2)
    assert broken(GOOD, of_two, stopped) == []


@pytest.mark.parametrize(
    "answer",
    [
        replace(GOOD, tokens=2),
        replace(GOOD, finish_reason="stop", tokens=4),
        replace(GOOD, finish_reason=""),
        replace(GOOD, pieces=[("Odessa. It", 4)]),
    ],
    ids=["length too early", "stop too late", "no reason", "says a stop text"],
)
def test_an_answer_that_ends_otherwise_than_it_says_is_cut(answer: Answer) -> None:
    assert broken(answer) == ["no answer is cut"]


@pytest.mark.parametrize(
    "answer",
    [
        replace(GOOD, revisions=()),
        replace(GOOD, revisions=(5,)),
        replace(GOOD, pieces=[("Odessa", 3), (" it was", 4)]),
        replace(GOOD, pieces=[("Odessa", 5), (" it was", 4)], revisions=(4, 5)),
        replace(GOOD, pieces=[("Odessa", 9)], revisions=(9,)),
    ],
    ids=["none", "another", "only the last of two", "backwards", "not committed"],
)
def test_revisions_that_do_not_fit_the_pieces_are_unsaid(answer: Answer) -> None:
    assert broken(answer) == ["every answer says its revisions"]


def test_a_question_without_an_answer_is_lost() -> None:
    assert broken(replace(GOOD, trouble="500")) == ["every question is answered"]
    assert of_the_stream(Asked([GOOD]), 2, 5)[0].broken == ["1 questions were never answered"]


def test_answers_of_one_revision_prove_nothing_about_editing() -> None:
    later = replace(GOOD, pieces=[("Odessa", 5)], revisions=(5,))
    assert of_the_editing(Asked([GOOD, GOOD]), committed=3).broken
    assert not of_the_editing(Asked([GOOD, later]), committed=3).broken


def test_different_texts_at_one_revision_need_a_tie() -> None:
    places = by_place([GOOD, replace(GOOD, pieces=[("Someone", 4)])])
    place = (4, QUESTION)
    assert alike(places, {place: ""}).broken == []
    assert alike(places, {place: "said otherwise"}).broken == [f"revision 4, {QUESTION}: said otherwise"]


def test_another_questions_usual_answer_is_recognised() -> None:
    usual = Answer(OTHER, [("Temper Brightwater", 4)], (4,), "length", 3)
    strayed = replace(GOOD, pieces=usual.pieces)
    assert texts_of_others(by_place([GOOD, GOOD, usual, usual])).broken == []
    assert len(texts_of_others(by_place([GOOD, GOOD, usual, usual, strayed])).broken) == 1
