"""Which sentence asks, and what it asks of a subject."""

from __future__ import annotations

import re

import pytest

from editor_core.scoped.question import question_before, question_in_turn


def places(text: str, name: str) -> list[tuple[int, int]]:
    return [found.span() for found in re.finditer(re.escape(name), text, re.IGNORECASE)]


@pytest.mark.parametrize(
    ("turn", "asked"),
    [
        ("Hi! I have a quick question. Who owns Castle Orwin?", "Who owns this?"),
        ("Who owns Castle Orwin? Answer briefly.", "Who owns this?"),
        ("Who owns Castle Orwin? Can you tell me?", "Who owns this?"),
        ("who owns castle orwin", "who owns this"),
        ("Please tell me: who owns Castle Orwin?", "who owns this?"),
        ("Who owns Castle Orwin? Use this: Castle Orwin is old.", "Who owns this?"),
        ("I read about Castle Orwin. Who owns it?", "Who owns this?"),
        ("Who owns Castle Orwin? Never mind. What is the capital of France?", None),
    ],
)
def test_a_turn_asks_its_last_question(turn: str, asked: str | None) -> None:
    assert question_in_turn(turn, places(turn, "Castle Orwin")) == asked


def test_a_pronoun_asks_about_the_subject_of_an_earlier_turn_and_another_name_does_not() -> None:
    assert question_in_turn("And when was she born?", (), named_before=True) == "And when was this born?"
    assert question_in_turn("Where was Bob Miller born?", (), named_before=True) is None
    assert question_in_turn("And when was she born?", ()) is None


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("Q: Who owns Castle Orwin?\nA:", "Who owns this?"),
        ("It was raining. Who owns Castle Orwin?", "Who owns this?"),
        ("The owner of Castle Orwin is", "The owner of this is"),
        ("Who owns Castle Orwin? Lady Maren Voss\n\nThe weather", None),
    ],
)
def test_running_text_asks_what_its_last_sentence_asks(text: str, asked: str | None) -> None:
    assert question_before(text, places(text, "Castle Orwin")) == asked


def test_a_mark_inside_a_name_ends_no_sentence() -> None:
    text = "What is the name of Freaked!'s record label?"
    assert question_in_turn(text, places(text, "Freaked")) == "What is the name of this!'s record label?"


def test_a_full_stop_inside_a_name_ends_no_sentence() -> None:
    text = "Where was J. R. R. Tolken born?"
    assert question_in_turn(text, places(text, "J. R. R. Tolken")) == "Where was this born?"
