"""Text made of tokens one at a time is the text of all of them, and keeps back what may yet be taken back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from editor_core.generation.sampling import Sampling, Scored
from editor_core.generation.sequence import Sequence
from editor_core.generation.text import GrowingText, token_starts


@pytest.fixture(scope="module")
def tokenizer(demo_folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(demo_folder)


def grown(tokenizer: Any, text: str, stop: tuple[str, ...] = ()) -> GrowingText:
    growing = GrowingText(tokenizer, stop)
    for token in tokenizer(text)["input_ids"]:
        growing.add(token)
        if growing.stopped:
            break
    growing.finish()
    return growing


@pytest.mark.parametrize("text", ["Odessa Brightwater, 1965.", " naïve 漢字 👩‍🚀 ok", "a\n\n  b\tc", ""])
def test_text_grows_to_what_all_tokens_say(tokenizer: Any, text: str) -> None:
    assert grown(tokenizer, text).text == tokenizer.decode(tokenizer(text)["input_ids"])


def test_parts_of_a_character_begin_where_it_does(tokenizer: Any) -> None:
    ids = tokenizer("😀😀 Paris é")["input_ids"]
    starts = token_starts(tokenizer, ids, special=False)
    assert starts == sorted(starts)
    assert {*starts} == {0, 1, 2, 8}
    pieces = tokenizer.convert_ids_to_tokens(ids)
    assert [at for at, piece in zip(starts, pieces, strict=True) if piece in ("ĠParis", "ĠÃ©")] == [2, 8]


def test_a_control_token_takes_room_where_it_is_part_of_the_text(tokenizer: Any) -> None:
    ids = tokenizer("<|im_start|>user")["input_ids"]
    assert token_starts(tokenizer, ids, special=False) == [0, 0]
    assert token_starts(tokenizer, ids, special=True) == [0, len("<|im_start|>")]


def test_halves_of_characters_alone_are_given_up(tokenizer: Any) -> None:
    [half] = [token for token in tokenizer("😀")["input_ids"] if tokenizer.decode([token]) == "�"][-1:]
    growing = GrowingText(tokenizer)
    for _ in range(40):
        growing.add(half)
    assert growing.text == "�" * 32


def test_no_half_characters_on_the_way(tokenizer: Any) -> None:
    growing = GrowingText(tokenizer)
    for token in tokenizer("👩‍🚀漢")["input_ids"]:
        growing.add(token)
        assert "�" not in growing.text


def test_a_stop_text_and_what_follows_is_left_out(tokenizer: Any) -> None:
    found = grown(tokenizer, "one two three four", (" th", "four"))
    assert (found.text, found.stopped) == ("one two", True)


def test_what_may_become_a_stop_text_is_told_only_when_it_did_not(tokenizer: Any) -> None:
    sequence = Sequence("s", [1], Sampling(max_tokens=99, stop=("two four",)), tokenizer)
    told = []
    for token in tokenizer("one two three")["input_ids"]:
        sequence.say(Scored(token), frozenset())
        told.append(sequence.news().text)
    assert told[:2] == ["one", " "]
    assert "".join(told) == "one two three"


def test_tokens_are_told_with_their_text_and_those_of_a_stop_text_never(tokenizer: Any) -> None:
    sequence = Sequence("s", [1], Sampling(max_tokens=99, stop=(" two three",)), tokenizer)
    told = []
    for token in tokenizer("one two three")["input_ids"]:
        sequence.say(Scored(token), frozenset())
        told += sequence.news().tokens
    assert [tokenizer.decode([scored.token]) for _, scored in told] == ["one"]
    assert sequence.finish_reason == "stop"
