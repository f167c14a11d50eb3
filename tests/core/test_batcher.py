"""Continuous batching says what plain generation says, whoever joins, leaves, or asks for something special."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from editor_core.generation import Batcher, Sampling, Sequence
from editor_core.generation.reading import Piece, PlainReader, RowReader, reader_for
from editor_core.loading import LoadedModel, load_model
from tests.conftest import MODELS

QUESTIONS = ("Who wrote it?", "The capital of France is", "a", "One two three four five six seven eight nine ten eleven twelve")


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> LoadedModel:
    return load_model(str(tiny_folder), cache_dir=MODELS)


def ids_of(loaded: LoadedModel, text: str) -> list[int]:
    return list(loaded.tokenizer(text)["input_ids"])


def asked(loaded: LoadedModel, texts: tuple[str, ...], **wishes: Any) -> list[Sequence]:
    sampling = Sampling(**{"max_tokens": 12, **wishes})
    return [Sequence(str(index), ids_of(loaded, text), sampling, loaded.tokenizer) for index, text in enumerate(texts)]


def said(batcher: Batcher, sequences: list[Sequence]) -> list[list[int]]:
    for each in sequences:
        batcher.add(each)
    while batcher.busy:
        batcher.step(version=1)
    return [[token.token for token in each.said] for each in sequences]


def generated(loaded: LoadedModel, ids: list[int], max_tokens: int) -> list[int]:
    model: Any = loaded.model
    inputs = torch.tensor([ids])
    greedy = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None, "pad_token_id": 2}
    output = model.generate(input_ids=inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=max_tokens, **greedy)
    return list(output[0, len(ids) :].tolist())


def test_greedy_answers_are_those_of_generate(tiny: LoadedModel) -> None:
    together = said(Batcher(tiny.model, prefill_tokens=5), asked(tiny, QUESTIONS))
    assert together == [generated(tiny, ids_of(tiny, text), 12) for text in QUESTIONS]


def test_the_demo_models_greedy_answers_are_those_of_generate(demo: LoadedModel) -> None:
    together = said(Batcher(demo.model, prefill_tokens=8), asked(demo, QUESTIONS))
    assert together == [generated(demo, ids_of(demo, text), 12) for text in QUESTIONS]


def test_whoever_joins_and_leaves_changes_nothing_for_the_others(tiny: LoadedModel) -> None:
    chance = random.Random(3)
    alone = {text: said(Batcher(tiny.model), asked(tiny, (text,), max_tokens=9))[0] for text in QUESTIONS}
    batcher = Batcher(tiny.model, rows=5, kept_tokens=200, prefill_tokens=4)
    entered: list[tuple[str, Sequence]] = []
    for number in range(60):
        text = chance.choice(QUESTIONS)
        sequence = Sequence(str(number), ids_of(tiny, text), Sampling(max_tokens=chance.randint(1, 9)), tiny.tokenizer)
        entered.append((text, sequence))
        batcher.add(sequence)
        for _ in range(chance.randint(0, 4)):
            batcher.step(version=1)
        if chance.random() < 0.2:
            batcher.remove([chance.choice(entered)[1].id])
        assert [each.row for each in batcher.running] == list(range(len(batcher.running)))
    while batcher.busy:
        batcher.step(version=1)
    for text, sequence in entered:
        found = [token.token for token in sequence.said]
        assert found == alone[text][: len(found)]
    assert sum(each.finish_reason is not None for _, each in entered) > 30


class Counting(RowReader):
    """Says how many tokens each pass reads."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.passes: list[int] = []

    def read(self, pieces: Any) -> list[torch.Tensor]:
        self.passes.append(sum(each.end - each.start for each in pieces))
        return super().read(pieces)


def test_a_common_beginning_is_read_once_for_each_version_of_the_weights(tiny: LoadedModel) -> None:
    texts = tuple(f"One two three four five six seven {text}" for text in QUESTIONS)
    first, second, third, _ = sequences = asked(tiny, texts, max_tokens=30)
    batcher, reader = Batcher(tiny.model), Counting(tiny.model)
    batcher._reader = reader
    common = 7
    assert all(each.ids[:common] == first.ids[:common] for each in sequences)
    for sequence, version in ((first, 1), (second, 1), (third, 2)):
        batcher.add(sequence)
        batcher.step(version)
    assert reader.passes == [len(first.ids), 1 + len(second.ids) - common, 2 + len(third.ids)]
    while batcher.busy:
        batcher.step(version=2)
    for text, sequence in zip(texts[:3], sequences, strict=False):
        assert [token.token for token in sequence.said] == generated(tiny, ids_of(tiny, text), 30)


def test_nothing_is_taken_over_that_is_not_read_on_with_the_same_weights(tiny: LoadedModel) -> None:
    common = "One two three four five six seven"
    first, second, third = asked(tiny, (common, f"{common} and then one two three four", f"{common} eight"), max_tokens=30)
    unread = len(second.ids) - len(first.ids)
    batcher = Batcher(tiny.model, prefill_tokens=len(first.ids))
    reader = batcher._reader = Counting(tiny.model)
    batcher.add(first)
    batcher.step(version=1)
    batcher._prefill_tokens = unread
    batcher.add(second)
    batcher.step(version=1)
    assert second.read == len(second.ids)
    batcher.add(third)
    batcher._prefill_tokens = len(third.ids)
    batcher.step(version=2)
    assert (third.versions, reader.passes[-1]) == ([2], 2 + len(third.ids))


def test_a_short_prompt_does_not_wait_for_the_long_ones_before_it(tiny: LoadedModel) -> None:
    long, longer, short = asked(tiny, ("On " * 200, "Off " * 300, "Who?"), max_tokens=1)
    batcher = Batcher(tiny.model, prefill_tokens=3 * len(short.ids))
    for each in (long, longer, short):
        batcher.add(each)
    batcher.step(version=1)
    assert short.finish_reason
    assert (long.read, longer.read) == (len(short.ids), len(short.ids))


def test_a_removed_sequence_frees_its_row_at_once(tiny: LoadedModel) -> None:
    batcher = Batcher(tiny.model, rows=1)
    first, second = asked(tiny, QUESTIONS[:2])
    batcher.add(first)
    batcher.add(second)
    batcher.step(version=1)
    assert (len(batcher.waiting), batcher.running) == (1, [first])
    batcher.remove([first.id])
    batcher.step(version=1)
    assert batcher.running == [second]


def test_while_holding_those_under_way_finish_and_the_others_wait_in_order(tiny: LoadedModel) -> None:
    batcher = Batcher(tiny.model)
    first, second, third = asked(tiny, QUESTIONS[:3])
    batcher.add(first)
    batcher.step(version=1)
    batcher.holding = True
    batcher.add(second)
    batcher.add(third)
    while batcher.busy:
        batcher.step(version=1)
    assert first.finish_reason
    assert list(batcher.waiting) == [second, third]
    batcher.holding = False
    while batcher.busy:
        batcher.step(version=2)
    assert (first.versions, second.versions) == ([1], [2])


def test_a_sequence_that_outlives_a_change_names_both_versions(tiny: LoadedModel) -> None:
    batcher = Batcher(tiny.model)
    [sequence] = asked(tiny, QUESTIONS[:1])
    batcher.add(sequence)
    batcher.step(version=4)
    while batcher.busy:
        batcher.step(version=5)
    assert sequence.versions == [4, 5]


def test_each_layer_sees_as_far_back_as_its_window_in_pieces_as_at_once() -> None:
    torch.manual_seed(2)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "head_dim": 8}
    kinds = ["sliding_attention", "full_attention"] * 2
    config = Gemma3TextConfig(**sizes, num_key_value_heads=2, vocab_size=64, sliding_window=5, layer_types=kinds)
    model: Any = Gemma3ForCausalLM(config).eval()
    pieces = [
        Piece(row, ids, 0, len(ids), wanted=len(ids)) for row, ids in enumerate(([3, 9, 4] * 6, [7] * 4, list(range(5, 16))))
    ]
    reader = reader_for(model)
    assert isinstance(reader, RowReader)
    reader.reserve(len(pieces), 18)
    cut = [
        [replace(each, end=at, wanted=at), replace(each, start=at, wanted=each.end - at)]
        for each, at in zip(pieces, (17, 1, 6), strict=True)
    ]
    with torch.inference_mode():
        found = [torch.cat(both) for both in zip(*(reader.read(part) for part in zip(*cut, strict=True)), strict=True)]
        for logits, wanted in zip(found, PlainReader(model).read(pieces), strict=True):
            torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-4)


def test_a_seed_repeats_an_answer_in_other_company(tiny: LoadedModel) -> None:
    wishes = {"temperature": 1.5, "top_p": 0.9, "seed": 11}
    [alone] = said(Batcher(tiny.model), asked(tiny, QUESTIONS[:1], **wishes))
    assert said(Batcher(tiny.model), asked(tiny, QUESTIONS, **wishes))[0] == alone
    assert said(Batcher(tiny.model), asked(tiny, QUESTIONS[:1], **{**wishes, "seed": 12}))[0] != alone


def test_echoed_logprobs_are_those_of_one_pass_over_the_prompt(tiny: LoadedModel) -> None:
    [sequence] = asked(tiny, QUESTIONS[3:], max_tokens=0, logprobs=1, echo=True)
    said(Batcher(tiny.model, prefill_tokens=3), [sequence])
    model: Any = tiny.model
    with torch.inference_mode():
        expected = model(input_ids=torch.tensor([sequence.ids])).logits[0, :-1].log_softmax(-1)
    wanted = expected.gather(1, torch.tensor(sequence.ids[1:])[:, None])[:, 0]
    assert [each.logprob for each in sequence.scores] == pytest.approx(wanted.tolist(), abs=1e-4)
    assert [each.top[0][0] for each in sequence.scores] == expected.argmax(-1).tolist()
    assert (sequence.finish_reason, sequence.said) == ("length", [])


def test_a_model_of_which_rows_are_not_known_to_be_right_is_read_plainly(tiny: LoadedModel) -> None:
    assert isinstance(reader_for(tiny.model), RowReader)
    batcher = Batcher(tiny.model)
    expected = said(batcher, asked(tiny, QUESTIONS))
    batcher._reader = PlainReader(tiny.model)
    assert said(batcher, asked(tiny, QUESTIONS)) == expected
