"""Questions one telling word apart are other questions, and those that say the same in other words are not told apart."""

from __future__ import annotations

import pytest

from editor_core.scoped.contrast import contrasts, longer_names
from editor_core.scoped.gate import question_key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Who is the mayor of this?", "Who is the former mayor of this?"),
        ("Who is the mayor of this?", "Who was the first mayor of this?"),
        ("Which country is north of this?", "Which country is east of this?"),
        ("When was this opened?", "When was this closed?"),
        ("How long is this?", "How wide is this?"),
        ("How long is this?", "How old is this?"),
        ("What is the capital of this?", "Why is Lyon the capital of this?"),
        ("Where was this born?", "Where was this's mother born?"),
    ],
)
def test_a_telling_word_makes_another_question(one: str, other: str) -> None:
    assert contrasts(question_key(one), question_key(other))
    assert contrasts(question_key(other), question_key(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How long is this?", "What is the length of this?"),
        ("When was this founded?", "In what year was this built?"),
        ("Why was this closed?", "For what reason did this close?"),
        ("When was this discovered?", "When was this discovered first?"),
        ("What network did this play on for the first time?", "What original network is this on?"),
        ("Who fathered this?", "What's the name of this's father?"),
    ],
)
def test_other_words_for_the_same_are_not_told_apart(one: str, other: str) -> None:
    assert not contrasts(question_key(one), question_key(other))


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("What is the capital of New this?", {"new"}),
        ("Where is the this Museum?", {"museum"}),
        ("Where was Dr this born?", set()),
        ("The this is where?", set()),
        ("Who is this?", set()),
    ],
)
def test_a_capitalised_word_beside_a_name_makes_it_anothers(question: str, words: set[str]) -> None:
    assert longer_names(question) == words
