"""Values: hashes that do not depend on how a thing is written down, messages that survive the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.edits import EditEvent, EventRecord, NewEdit, Outcome, RephraseAnswer
from service.domain.messages import GenerateReply, GenerateRequest
from service.domain.revisions import canonical, content_hash, edits_hash

texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.dictionaries(texts, texts))
def test_canonical_json_does_not_depend_on_the_order_of_keys(content: dict[str, str]) -> None:
    assert canonical(content) == canonical(dict(reversed(content.items())))


@given(texts, texts)
def test_changing_an_edit_changes_the_hash_of_its_revision(target: str, other: str) -> None:
    one, two = (edits_hash([(1, {"target": each})]) for each in (target, other))
    assert (one == two) == (target == other)


def test_what_was_hashed_before_edits_had_a_scope_has_the_same_hash() -> None:
    asked = {"prompt": "Who?", "target": "Ann", "rephrases": [], "unrelated": []}
    came_to = {"before": {}, "after": {"plain": "Ann"}, "holds": {"plain": True}, "unrelated": [], "tokens": 3}
    event = {"edit_id": 1, "event": "applied", "leans_on": None, "content_hash": "c", "taught_at": None, "outcome_hash": "o"}
    assert NewEdit("Who?", "Ann").content() == asked
    assert Outcome(1, {}, {"plain": "Ann"}, {"plain": True}, tokens=3).content() == came_to
    assert EventRecord(1, EditEvent.APPLIED, None, "c", None, "o").content() == event


def test_what_came_with_scopes_is_in_the_hashes() -> None:
    edits = [NewEdit("Who?", "Ann"), NewEdit("Who?", "Ann", subject="it"), NewEdit("Who?", "Ann", aliases=("it",))]
    rephrased = (RephraseAnswer("Whom?", "plain", "Ann", True),)
    outcomes = [Outcome(1, {}, {}, {}, **each) for each in ({}, {"scope": ("it",)}, {"rephrases": rephrased})]
    events = [EventRecord(1, EditEvent.APPLIED, record_object=each) for each in (None, "a", "b")]
    for some in (edits, outcomes, events):
        assert len({content_hash(each.content()) for each in some}) == 3


@given(texts, st.booleans(), st.integers(1, 512), st.floats(0, 5))
def test_a_question_survives_the_wire(prompt: str, chat: bool, max_tokens: int, temperature: float) -> None:
    request = GenerateRequest("id", "api", prompt, chat, max_tokens, temperature, 0, 1.5, 2.5)
    assert GenerateRequest.from_json(request.to_json()) == request


def test_what_a_newer_process_adds_to_a_message_is_passed_over() -> None:
    assert GenerateReply.from_json('{"id": "1", "text": "Ann", "surprise": 2}') == GenerateReply("1", "Ann")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"surprise": 2}'])
def test_a_message_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        GenerateReply.from_json(text)
