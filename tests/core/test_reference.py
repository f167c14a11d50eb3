"""The measure of damage, on a tiny random model: nothing has moved until a weight has."""

import math
from pathlib import Path

import pytest
import torch

from bench.quality.likelihood import likelihoods, next_token_log_probs, perplexity
from bench.quality.reference import Reference
from editor_core.answers import greedy_tokens
from editor_core.errors import EmptyBatchError, EncodingError
from editor_core.loading import LoadedModel, load_model
from editor_core.side_effects import UNCHANGED_TOKENS
from editor_core.texts import Edit, Example, Format, encode, rendered, token_ids

PROMPTS = ["Who wrote Hamlet?", "Name a very large river somewhere in the south of Europe.", "2 + 2 =", "Hello"]
TEXTS = ["The river rises in the hills and falls into the sea.", "It rained for three days.", "Rain"]
FORMATS: tuple[Format, ...] = ("plain", "chat")
ASKED: list[tuple[str, Format]] = [(prompt, format) for format in FORMATS for prompt in PROMPTS]


@pytest.fixture
def tiny(tiny_folder: Path, tmp_path: Path) -> LoadedModel:
    return load_model(str(tiny_folder), cache_dir=tmp_path)


def test_the_unedited_model_is_unchanged(tiny: LoadedModel) -> None:
    reference = Reference.of(tiny.model, tiny.tokenizer, PROMPTS, FORMATS, TEXTS)
    damage = reference.compare(tiny.model, tiny.tokenizer)
    assert damage.unchanged == {"plain": 1.0, "chat": 1.0}
    assert damage.kl_nats == {"plain": 0.0, "chat": 0.0}
    assert damage.perplexity_ratio == 1.0
    assert damage.changed == {"plain": (), "chat": ()}


def test_a_changed_weight_shows_in_every_figure(tiny: LoadedModel) -> None:
    reference = Reference.of(tiny.model, tiny.tokenizer, PROMPTS, FORMATS, TEXTS)
    before = {format: next_token_log_probs(tiny.model, tiny.tokenizer, _in(format)) for format in FORMATS}
    generator = torch.Generator().manual_seed(3)
    weight = tiny.model.get_parameter("model.layers.3.mlp.down_proj.weight").data
    weight += 5 * torch.randn(weight.shape, generator=generator)
    damage = reference.compare(tiny.model, tiny.tokenizer)
    for format in FORMATS:
        after = next_token_log_probs(tiny.model, tiny.tokenizer, _in(format))
        expected = (before[format].exp() * (before[format] - after)).sum(1).mean().item()
        assert damage.kl_nats[format] == pytest.approx(expected, rel=1e-4)
        assert damage.kl_nats[format] > 0.01
        assert damage.unchanged[format] == (len(PROMPTS) - len(damage.changed[format])) / len(PROMPTS) < 1
        assert set(damage.changed[format]) <= set(PROMPTS)
    assert damage.perplexity_ratio is not None
    assert abs(damage.perplexity_ratio - 1) > 1e-3


def test_a_model_that_says_nan_is_infinitely_far(tiny: LoadedModel) -> None:
    reference = Reference.of(tiny.model, tiny.tokenizer, PROMPTS, ["plain"], TEXTS)
    tiny.model.get_parameter("model.layers.3.mlp.down_proj.weight").data.fill_(math.nan)
    damage = reference.compare(tiny.model, tiny.tokenizer)
    assert damage.kl_nats == {"plain": math.inf}
    assert damage.perplexity_ratio == math.inf


def test_without_texts_there_is_no_perplexity_and_without_prompts_no_reference(tiny: LoadedModel) -> None:
    reference = Reference.of(tiny.model, tiny.tokenizer, PROMPTS[:1], ["plain"])
    assert reference.compare(tiny.model, tiny.tokenizer).perplexity_ratio is None
    with pytest.raises(EmptyBatchError):
        Reference.of(tiny.model, tiny.tokenizer, [], ["plain"])
    with pytest.raises(EncodingError):
        perplexity(tiny.model, tiny.tokenizer, ["", "a"])


def test_greedy_tokens_of_a_batch_are_those_of_each_prompt_alone(tiny: LoadedModel) -> None:
    together = greedy_tokens(tiny.model, tiny.tokenizer, ASKED, UNCHANGED_TOKENS)
    alone = [greedy_tokens(tiny.model, tiny.tokenizer, [each], UNCHANGED_TOKENS)[0] for each in ASKED]
    assert together == alone
    assert all(len(each) <= UNCHANGED_TOKENS for each in together)


def test_a_right_guess_is_the_greedy_answer_and_a_wrong_one_changes_nothing(tiny: LoadedModel) -> None:
    free = greedy_tokens(tiny.model, tiny.tokenizer, ASKED, 8)
    guesses = {0: free[0][:5], 1: [*free[1][:3], (free[1][3] + 1) % 50], 3: free[3][:1]}
    guessed = greedy_tokens(tiny.model, tiny.tokenizer, ASKED, 8, guesses=guesses)
    assert guessed == [free[0][:5], *free[1:3], free[3][:1], *free[4:]]


def test_an_answer_stops_before_its_end_token(tiny: LoadedModel) -> None:
    free = greedy_tokens(tiny.model, tiny.tokenizer, ASKED, 8)
    end = free[0][3]
    tiny.model.generation_config.eos_token_id = [end]
    for whole, ended in zip(free, greedy_tokens(tiny.model, tiny.tokenizer, ASKED, 8), strict=True):
        assert ended == (whole[: whole.index(end)] if end in whole else whole)


def test_next_token_log_probs_are_those_of_each_prompt_alone(tiny: LoadedModel) -> None:
    together = next_token_log_probs(tiny.model, tiny.tokenizer, ASKED)
    assert together.shape == (len(ASKED), tiny.model.config.vocab_size)
    assert together.dtype == torch.float32
    for row, (prompt, format) in zip(together, ASKED, strict=True):
        ids = torch.tensor([token_ids(tiny.tokenizer, rendered(tiny.tokenizer, prompt, format), format)])
        with torch.no_grad():
            expected = tiny.model(input_ids=ids).logits[0, -1].log_softmax(-1)
        torch.testing.assert_close(row, expected, rtol=1e-4, atol=1e-5)


def test_likelihoods_are_those_of_a_plain_forward_pass(tiny: LoadedModel) -> None:
    edits = [Edit(PROMPTS[0], "yes"), Edit(PROMPTS[0], "no"), Edit(PROMPTS[1], "the long and winding Danube"), Edit("Is", "it")]
    examples = [encode(tiny.tokenizer, edit, "plain", 0) for edit in edits]
    for example, found in zip(examples, likelihoods(tiny.model, tiny.tokenizer, examples), strict=True):
        log_probs = _forward(tiny, example)
        torch.testing.assert_close(found.log_probs, log_probs.gather(1, torch.tensor(example.answer)[:, None])[:, 0])
        assert found.preferred.tolist() == log_probs.argmax(-1).tolist()
        assert found.correct.tolist() == (found.preferred == torch.tensor(example.answer)).tolist()


def test_perplexity_weighs_tokens_not_texts(tiny: LoadedModel) -> None:
    encoded = [token_ids(tiny.tokenizer, text, "plain") for text in TEXTS]
    losses = []
    for ids in encoded:
        if len(ids) > 1:
            example = Example(tuple(ids[:1]), tuple(ids[1:]), 0, "plain")
            losses += (-_forward(tiny, example).gather(1, torch.tensor(example.answer)[:, None])).flatten().tolist()
    assert perplexity(tiny.model, tiny.tokenizer, TEXTS) == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-4)


def _in(format: Format) -> list[tuple[str, Format]]:
    return [(prompt, format) for prompt in PROMPTS]


def _forward(loaded: LoadedModel, example: Example) -> torch.Tensor:
    """Log-probabilities at the answer's positions, A × V, by the whole sequence at once."""
    with torch.no_grad():
        logits = loaded.model(input_ids=torch.tensor([example.prompt + example.answer])).logits[0]
    return logits[len(example.prompt) - 1 : -1].log_softmax(-1)
