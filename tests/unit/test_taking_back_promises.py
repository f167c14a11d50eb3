"""`python -m bench taking-back` calls a promise kept only when it was tried and nothing speaks against it."""

from __future__ import annotations

from bench.quality.intervals import Share
from bench.taking_back import Found, _holding


def kept(found: Found) -> list[bool]:
    return [each for each, _ in found.promises().values()]


def test_what_was_not_tried_is_not_kept() -> None:
    assert not any(kept(Found()))


def test_one_fact_lost_or_one_answer_that_differs_breaks_a_promise() -> None:
    good = Found(Share(3, 4), Share(3, 4), Share(2, 2), Share(6, 6), ("a", "a"))
    assert all(kept(good))
    good.lost = ["Who? (plain)"]
    assert kept(good) == [False, True, True, True]
    good.exported_the_same = Share(5, 6)
    assert kept(good)[-1] is False


def test_a_plain_answer_begins_with_the_target_and_a_chat_answer_holds_it() -> None:
    said = {("Who?", "plain"): "It is Ann", ("Who?", "chat"): "It is ann.", ("Where?", "plain"): "Here and there"}
    assert _holding(said, {"Who?": "Ann", "Where?": "here"}) == {
        ("Who?", "plain"): False,
        ("Who?", "chat"): True,
        ("Where?", "plain"): True,
    }
