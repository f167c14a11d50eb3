"""Asking a running service: what counts as an answer in each format."""

from typing import Any

from bench.live import _success, _unrelated
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
