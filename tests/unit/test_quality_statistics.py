"""What the quality bench counts, on answers made up for it."""

import json
import math
from pathlib import Path

import pytest

from bench.quality.asking import Answer, success
from bench.quality.downstream import TASKS, chosen, lean, read_items, task_score, without
from bench.quality.facts import read_facts
from bench.quality.intervals import Share, wilson
from bench.quality.plain_texts import plain_texts
from bench.quality.targets import KL_NATS, PERPLEXITY_RATIO, SUCCESS

RAW = {
    "cola": [{"sentence": "He go home.", "label": 0, "idx": 1}, {"sentence": "He goes home.", "label": 1, "idx": 2}],
    "mrpc": [{"sentence1": "It rains.", "sentence2": "There is rain.", "label": 1, "idx": 1}],
    "rte": [{"sentence1": "Oslo is cold.", "sentence2": "Oslo is not hot.", "label": 0, "idx": 1}],
    "sst2": [{"sentence": "a joy ", "label": 1, "idx": 1}],
    "nli": [{"sentence1": "Oslo is cold.", "sentence2": "Bergen is hot.", "label": "not_entailment", "index": "1"}],
    "mmlu": [{"question": "2 + 2?", "subject": "sums", "choices": ["3", "4", "5", "6"], "answer": 1}],
}


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.2775), (50, 100, 0.4038, 0.5962), (98, 100, 0.9300, 0.9945), (10, 10, 0.7225, 1.0), (0, 0, 0.0, 1.0)],
)
def test_wilson_interval(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_a_share_counts_and_carries_its_interval() -> None:
    share = Share.of([True, False, True, True])
    assert (share.successes, share.trials, share.value) == (3, 4, 0.75)
    assert share.as_json()["wilson_95"] == wilson(3, 4)
    assert math.isnan(Share.of([]).value)


def test_success_is_counted_by_kind_and_format() -> None:
    answers = [
        Answer(0, "prompt", "plain", "Which river?", "Danube", "danube, of course"),
        Answer(1, "prompt", "plain", "Which river?", "Danube", "The Danube"),
        Answer(0, "prompt", "chat", "Which river?", "Danube", "It is the Danube."),
        Answer(0, "rephrase", "plain", "River?", "Danube", "Rhine"),
    ]
    assert success(answers, "prompt", "plain") == Share(1, 2)
    assert success(answers, "prompt", "chat") == Share(1, 1)
    assert success(answers, "rephrase", "plain") == Share(0, 1)


def test_every_task_becomes_a_question_with_its_right_option() -> None:
    right = {
        "cola": ["no", "yes"],
        "mrpc": ["yes"],
        "rte": ["yes"],
        "sst2": ["positive"],
        "nli": ["no"],
        "mmlu": ["B"],
    }
    items = {task: [make(each) for each in RAW[task]] for task, make in TASKS.items()}
    assert {task: [item.options[item.label] for item in each] for task, each in items.items()} == right
    assert all(item.prompt.endswith("Answer:") for each in items.values() for item in each)


def test_items_are_drawn_by_seed_and_no_more_than_there_are(tmp_path: Path) -> None:
    path = tmp_path / "downstream.json"
    path.write_text(json.dumps(RAW | {"cola": [{"sentence": f"Number {n}.", "label": n % 2} for n in range(50)]}))
    drawn = read_items(path, 10, seed=4)
    assert {task: len(each) for task, each in drawn.items()} == {task: 10 if task == "cola" else 1 for task in TASKS}
    assert drawn == read_items(path, 10, seed=4)
    assert drawn != read_items(path, 10, seed=5)
    assert plain_texts(None, path, seed=4) == ["Oslo is cold."]


def test_a_task_is_scored_against_the_other_model_and_against_its_labels() -> None:
    score = task_score([0, 1, 0, 1], unedited=[0, 0, 0, 0], edited=[0, 1, 1, 0])
    assert (score.agreement, score.unedited, score.edited) == (Share(2, 4), Share(2, 4), Share(2, 4))


def test_the_most_likely_option_is_chosen_and_a_lean_can_be_taken_out() -> None:
    scores = [[-3.0, -1.0], [-4.0, -1.0], [-2.0, -2.0]]
    assert chosen(scores) == [1, 1, 0]
    assert lean(scores) == pytest.approx([-3.0, -4 / 3])
    assert chosen(without([[-3.0, -1.0], [-4.0, -1.0], [-2.0, -1.0]], [-3.0, -1.0])) == [0, 1, 0]


def test_facts_are_read_from_a_number_on_and_must_be_whole(tmp_path: Path) -> None:
    names = ("prompt", "target", "rephrase", "unrelated_prompt", "unrelated_target", "portability_prompt", "portability_target")
    whole = [{"subject": "s"} | {name: f"{name} {number}" for name in names} for number in range(3)]
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(whole))
    facts = read_facts(path, 1, 2)
    assert [fact.prompt for fact in facts] == ["prompt 1", "prompt 2"]
    assert facts[0].questions()["rephrase"] == ("rephrase 1", "target 1")
    with pytest.raises(SystemExit, match="holds 2 facts"):
        read_facts(path, 1, 3)
    path.write_text(json.dumps([whole[0] | {"rephrase": " "}]))
    with pytest.raises(SystemExit, match="lacks rephrase"):
        read_facts(path, 0, 1)


def test_targets() -> None:
    assert SUCCESS["prompt"].met(0.98)
    assert not SUCCESS["prompt"].met(0.97)
    assert not KL_NATS.met(math.nan)
    assert PERPLEXITY_RATIO.met(0.995)
    assert not PERPLEXITY_RATIO.met(1.02)
