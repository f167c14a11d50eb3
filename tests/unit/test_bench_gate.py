"""The bench of the gate: its classes, what it asks, what it counts. No encoder is loaded."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import pytest
import torch

from bench.gate import table
from bench.gate.classes import classes, relations
from bench.gate.contrast import contrastive_loss, drawn, members, nearest_classes
from bench.gate.judging import Way, scores
from bench.gate.minimal_pairs import of_noun, of_verb
from bench.gate.network import Trained, vectors_of
from bench.gate.pairs import (
    HARD_PAIRS,
    HARD_SAME,
    OF_FOUR,
    OF_TWELVE,
    REPHRASE,
    SORTS,
    Pair,
    Wording,
    hard_pairs,
    pairs_of,
    wording,
)
from bench.gate.training import learn
from bench.trust.facts import Fact

CASTLE = Fact("Castle Orwin", "Who owns Castle Orwin?", "Lady Voss", "Whose is Castle Orwin?")


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def letters(text: str) -> torch.Tensor:
    counts = [float(text.lower().count(chr(each))) for each in range(97, 123)]
    return torch.nn.functional.normalize(torch.tensor(counts), dim=0)


def test_every_wording_names_its_subject_once() -> None:
    assert [len(each) for each in relations()] == [9] * 488
    assert all(each.count("{}") == 1 for wordings in classes() for each in wordings)
    assert len(classes()) == 1100
    assert min(map(len, classes())) >= 2  # a class of one has nothing to be near


def test_minimal_pairs() -> None:
    stolen = list(of_verb("stolen"))
    assert [each[0] for each in stolen[:2]] == ["When was {} stolen?", "Where was {} stolen?"]
    assert stolen[4][:2] == ("Who stole {}?", "{} was stolen by whom?")
    assert len(list(of_verb("born"))) == 4
    assert "{}'s ISBN is" in of_noun("ISBN")


def test_the_loss_is_least_where_classes_are_apart() -> None:
    numbers = torch.tensor([0, 0, 1, 1])
    apart = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert float(contrastive_loss(apart, numbers)) < 0.01
    assert float(contrastive_loss(apart[[0, 2, 1, 3]], numbers)) > 10


def test_a_step_sees_what_is_near_what_was_drawn() -> None:
    numbers = torch.arange(40).repeat_interleave(6)
    angles = numbers * 0.05
    vectors = torch.stack([angles.cos(), angles.sin()], 1)
    near = nearest_classes(vectors, numbers, 2)
    assert sorted(near[20].tolist()) == [19, 21]
    places = drawn(members(numbers), near)
    seen = torch.bincount(numbers[places])
    assert set(seen.tolist()) <= {0, 4}
    assert 14 <= int((seen > 0).sum()) <= 14 * 3


class Layer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(16, 16)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return hidden + torch.Tensor(self.linear(hidden))


def test_training_pulls_classes_apart_and_padding_does_not_count() -> None:
    numbers = torch.arange(20).repeat_interleave(4)
    states = [torch.randn(int(each) % 5 + 1, 16) + torch.randn(16) for each in range(len(numbers))]
    network = Trained([Layer()], 5, 16)
    before = float(contrastive_loss(vectors_of(states, network), numbers))
    told: list[float] = []
    learn(network, states, numbers, 60, told.append)
    assert told[-1] == 1
    found = vectors_of(states, network)
    assert float(contrastive_loss(found, numbers)) < before
    torch.testing.assert_close(network(states[:1])[0], found[0])
    tensors = network.tensors()
    layer = "encoder.layer.5.linear."
    assert set(tensors) == {"projection", f"{layer}weight", f"{layer}bias"}
    assert tensors["projection"].shape == (128, 16)
    assert {each.dtype for each in tensors.values()} == {torch.float16}


def test_a_fact_is_asked_by_its_rephrase_and_for_other_things() -> None:
    pairs = list(pairs_of(CASTLE, len))
    assert pairs[0].taught == Wording("Who owns Castle Orwin?", "Who owns this?")
    assert pairs[0].asked == Wording("Whose is Castle Orwin?", "Whose is this?")
    counts = [sum(pair.sort == sort for pair in pairs) for sort in SORTS[:3]]
    assert counts == [1, 4, 11]  # who owns it is not asked for another thing


def test_a_question_that_names_nobody_opens_nothing() -> None:
    assert wording("Whose is the castle?", "Castle Orwin") is None
    found = scores([Pair(REPHRASE, Wording("a", "a"), None)], Way("", letters, _nameless))
    assert found[REPHRASE] == [0.0]


def test_hard_pairs_are_whole_and_nameless() -> None:
    rows = json.loads(HARD_PAIRS.read_text(encoding="utf-8"))
    pairs = list(hard_pairs())
    assert len(pairs) == sum(len(row["same"]) + len(row["another"]) for row in rows) == 85
    asked = Wording("Which animal stands for Canada?", "Which animal stands for this?")
    assert (pairs[0].sort, pairs[0].asked) == (HARD_SAME, asked)


def test_scores_are_the_gates_own() -> None:
    taught = Wording("", "Who owns this?")
    asked = ("who owns this", "Who owns this in 1990?", "Who built this?")
    pairs = [Pair(REPHRASE, taught, Wording("", each)) for each in asked]
    same, other_number, near = scores(pairs, Way("", letters, _nameless))[REPHRASE]
    likeness = float(letters("Who owns this?") @ letters("Who built this?"))
    assert (same, other_number) == (math.inf, 0.0)
    assert likeness <= near < likeness + 0.01


def test_shares_and_thresholds() -> None:
    assert table.share_open([0.2, 0.5, 0.6, 1.0], 0.5) == 0.5
    assert math.isnan(table.share_open([], 0.5))
    of_hundred = [each / 100 for each in range(100)]
    threshold = table.threshold_at(of_hundred, 0.05)
    assert table.share_open(of_hundred, threshold) == 0.05
    assert table.threshold_at([math.inf, 0.5], 0.1) == math.inf  # no threshold shuts that gate


def test_tables_have_a_row_for_each_way_and_threshold() -> None:
    found = {sort: [0.3, 0.7] for sort in SORTS}
    lines = table.by_threshold({"a": found, "b": found}, [0.5, 0.9]).splitlines()
    assert len(lines) == 6
    assert lines[2] == "| a | 0.50 | " + " | ".join(["0.500"] * 5) + " |"
    assert len(table.by_others({"a": found}).splitlines()) == 2 + len(table.OTHERS_OPEN)
    none = found | {OF_FOUR: [], OF_TWELVE: []}
    assert len(table.by_others({"a": none}).splitlines()) == 2


def _nameless(wording: Wording) -> str:
    return wording.nameless
