"""Values: hashes that do not depend on how a thing is written down, messages that survive the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.messages import GenerateReply, GenerateRequest
from service.domain.revisions import canonical, edits_hash

texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.dictionaries(texts, texts))
def test_canonical_json_does_not_depend_on_the_order_of_keys(content: dict[str, str]) -> None:
    assert canonical(content) == canonical(dict(reversed(content.items())))


@given(texts, texts)
def test_changing_an_edit_changes_the_hash_of_its_revision(target: str, other: str) -> None:
    one, two = (edits_hash([(1, {"target": each})]) for each in (target, other))
    assert (one == two) == (target == other)


@given(texts, st.booleans(), st.integers(1, 512), st.floats(0, 5))
def test_a_question_survives_the_wire(prompt: str, chat: bool, max_tokens: int, temperature: float) -> None:
    request = GenerateRequest("id", "api", prompt, chat, max_tokens, temperature, 0, 1.5, 2.5)
    assert GenerateRequest.from_json(request.to_json()) == request


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"id": 1, "surprise": 2}'])
def test_a_message_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        GenerateReply.from_json(text)
