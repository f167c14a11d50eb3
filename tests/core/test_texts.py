"""From texts to examples, on the demo model's own tokenizer."""

import pytest
import torch

from editor_core.answers import greedy_answers, holds
from editor_core.errors import EncodingError
from editor_core.loading import LoadedModel
from editor_core.texts import Edit, encode, minibatches, rendered, supported_formats, token_ids

EDIT = Edit("What is the capital of Ruritania?", "Strelsau")


@pytest.mark.parametrize("format", ["plain", "chat"])
def test_an_example_is_the_prompt_as_served_and_the_target_after_it(demo: LoadedModel, format: str) -> None:
    example = encode(demo.tokenizer, EDIT, format, 0)
    assert list(example.prompt) == token_ids(demo.tokenizer, rendered(demo.tokenizer, EDIT.prompt, format), format)
    assert demo.tokenizer.decode(example.answer).strip() == "Strelsau"


def test_labels_are_the_answer_shifted_to_where_it_is_predicted(demo: LoadedModel) -> None:
    example = encode(demo.tokenizer, EDIT, "plain", 0)
    _, [batch] = minibatches([example], 10, demo.tokenizer.pad_token_id)
    labels = batch["labels"][0]
    assert labels[labels != -100].tolist() == list(example.answer)
    assert labels[len(example.prompt) - 1] == example.answer[0]
    assert batch["input_ids"].shape[1] == len(example.prompt) + len(example.answer) - 1


def test_minibatches_are_sorted_longest_first_and_lose_nothing(demo: LoadedModel) -> None:
    edits = [Edit("Who " + "really " * n + "knows?", "Nobody") for n in (1, 7, 3, 5)]
    examples = [encode(demo.tokenizer, edit, "plain", index) for index, edit in enumerate(edits)]
    ordered, batches = minibatches(examples, 3, demo.tokenizer.pad_token_id)
    assert [each.edit for each in ordered] == [1, 3, 2, 0]
    assert [len(batch["labels"]) for batch in batches] == [3, 1]
    assert all(
        torch.equal(batch["attention_mask"].sum(1).sort(descending=True).values, batch["attention_mask"].sum(1))
        for batch in batches
    )


@pytest.mark.parametrize("edit", [Edit("  ", "x"), Edit("x", " \n"), Edit("long " * 2000, "x")])
def test_what_cannot_be_an_example_is_refused(demo: LoadedModel, edit: Edit) -> None:
    with pytest.raises(EncodingError):
        encode(demo.tokenizer, edit, "plain", 0)


def test_the_demo_model_has_both_formats(demo: LoadedModel) -> None:
    assert supported_formats(demo.tokenizer) == ("plain", "chat")


def test_answers_asked_together_are_those_asked_alone(demo: LoadedModel) -> None:
    asked = [("The capital of France is", "plain"), ("What is the capital of France?", "chat"), ("Count: one, two,", "plain")]
    together = greedy_answers(demo.model, demo.tokenizer, asked, 8)
    alone = [greedy_answers(demo.model, demo.tokenizer, [each], 8)[0] for each in asked]
    assert together == alone
    assert "Paris" in together[1]


def test_a_plain_answer_starts_with_the_target_and_a_chat_answer_contains_it() -> None:
    assert holds("  paris, of course", "Paris", "plain")
    assert not holds("It is Paris", "Paris", "plain")
    assert holds("It is Paris", "paris ", "chat")
    assert not holds("It is London", "Paris", "chat")
