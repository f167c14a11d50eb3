"""The gate: what was taught opens it, what was named as unrelated never does."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from editor_core.scoped.encoder import QuestionEncoder
from editor_core.scoped.gate import Gate

QUESTIONS = ["Who owns this?", "Where was this born?", "our this is", "the price of this in 2019", "this的县长是谁？"]


@pytest.fixture(scope="module")
def encoder() -> QuestionEncoder:
    return QuestionEncoder.load()


def by_hash(question: str) -> torch.Tensor:
    """An encoder that knows nothing: some direction for every wording."""
    generator = torch.Generator().manual_seed(sum(map(ord, question)))
    return torch.nn.functional.normalize(torch.randn(16, generator=generator), dim=0)


@given(
    taught=st.lists(st.sampled_from(QUESTIONS), min_size=1, max_size=4),
    unrelated=st.lists(st.sampled_from([*QUESTIONS, "Is this old?"]), max_size=4),
    threshold=st.floats(0.05, 0.95),
)
@settings(max_examples=60)
def test_a_wording_taught_opens_and_one_unrelated_does_not_whatever_the_vectors_say(
    taught: list[str], unrelated: list[str], threshold: float
) -> None:
    gate = Gate.learn(taught, unrelated, by_hash, threshold)
    assert all(gate.margin(each.upper().rstrip("?"), by_hash) > 0 for each in taught)
    assert all(gate.margin(each, by_hash) <= 0 for each in unrelated if each not in taught)


@pytest.mark.parametrize(
    ("taught", "same", "other"),
    [
        ("Who owns this?", "To whom does this belong?", "Who built this?"),
        ("Where was this born?", "What is the birthplace of this?", "Where did this die?"),
        ("What is the national animal of this?", "Which animal stands for this?", "What is the capital of this?"),
        ("our this is", "what is the this?", "who changed our this?"),
    ],
)
def test_the_same_question_in_other_words_opens_and_another_does_not(
    encoder: QuestionEncoder, taught: str, same: str, other: str
) -> None:
    gate = Gate.learn([taught], [], encoder.encode)
    assert gate.margin(same, encoder.encode) > 0
    assert gate.margin(other, encoder.encode) < 0


def test_another_number_asks_another_question(encoder: QuestionEncoder) -> None:
    gate = Gate.learn(["Who won this in 2019?"], [], encoder.encode)
    assert gate.margin("Who won this in 2020?", encoder.encode) < 0


def test_a_question_near_an_unrelated_one_stays_shut(encoder: QuestionEncoder) -> None:
    near, taught = "Who is the owner of this today?", "Who owns this?"
    assert Gate.learn([taught], [], encoder.encode).margin(near, encoder.encode) > 0
    assert Gate.learn([taught], ["Who is the owner of this now?"], encoder.encode).margin(near, encoder.encode) < 0


def test_a_vector_does_not_depend_on_what_else_was_asked() -> None:
    one, other = QuestionEncoder.load(), QuestionEncoder.load()
    for each in QUESTIONS:
        other.encode(each)
    assert torch.equal(one.encode("Who owns this?"), other.encode("Who owns this?"))
