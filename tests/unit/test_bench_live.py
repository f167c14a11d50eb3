"""Asking a running service: what counts as an answer in each format."""

from typing import Any

from bench.live import _later, _success, _unrelated
from bench.quality.facts import Fact

FACT = Fact("Who led Lake Tantrum?", "Odessa", "Lake Tantrum was led by whom?", "Why is rain wet?", "water", "Where?", "There")


class Client:
    """Says the target after other words, and knows no rephrase."""

    def ask(self, prompt: str, **options: Any) -> dict[str, Any]:
        return {"text": " It was ODESSA." if prompt == FACT.prompt else f"{options['max_tokens']} tokens"}


def test_a_chat_answer_contains_the_target_and_a_plain_one_begins_with_it() -> None:
    shares = _success(Client(), [FACT], lambda share: None)  # type: ignore[arg-type]
    said = {name: share.successes for name, share in shares.items()}
    assert said == {"prompt, plain": 0, "prompt, chat": 1, "rephrase, plain": 0, "rephrase, chat": 0}


def test_unrelated_questions_are_asked_in_both_formats_for_their_first_twelve_tokens() -> None:
    answers = _unrelated(Client(), [FACT], lambda share: None)  # type: ignore[arg-type]
    assert answers == {("Why is rain wet?", "plain"): "12 tokens", ("Why is rain wet?", "chat"): "12 tokens"}


def test_what_is_lost_after_further_edits_is_named_with_what_is_said_instead() -> None:
    posted: list[str] = []

    class Posting(Client):
        def submit(self, facts: list[dict[str, str]]) -> list[int]:
            posted.extend(fact["prompt"] for fact in facts)
            return [1]

        def finished(self, ids: list[int]) -> list[dict[str, str]]:
            return [{"state": "failed", "prompt": posted[-1]}]

    more = [{"prompt": name, "target": "x"} for name in ("A?", "B?", "C?")]
    before = {("Why is rain wet?", format): "12 tokens" for format in ("plain", "chat")}
    first, second = _later(Posting(), [FACT], more, 2, before, lambda share: None)  # type: ignore[arg-type]
    assert (first["edits"], second["edits"], first["failed"], second["failed"]) == (3, 4, ["B?"], ["C?"])
    assert second["held"] == {"plain": 0, "chat": 1}
    assert second["lost"] == [["Who led Lake Tantrum?", "plain", " It was ODESSA."]]
    assert second["unrelated unchanged"]["plain"]["share"] == 1.0
