"""lm-evaluation-harness scores a running service as it scores the same model in its own process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM
from lm_eval.models.openai_completions import LocalCompletionsAPI
from lm_eval.tasks import TaskManager
from service_processes import Service

from tests.conftest import Servers
from tests.e2e.conftest import tiny_service
from tests.e2e.test_taken_away import exported

HARBOURS = ["Port Ada", "Port Brill", "Port Cass", "Port Dorn"]
QUESTIONS = [f"Which harbour is number {number} on the list?" for number in range(len(HARBOURS))]


@pytest.fixture
def service(servers: Servers, tiny_folder: Path, tmp_path: Path) -> Iterator[Service]:
    service = tiny_service(servers, tiny_folder, tmp_path)
    service.start_all()
    yield service
    service.stop()


def tasks(folder: Path) -> list[dict[str, Any]]:
    """Of the answers, which is likeliest, and which is said: the two ways in which the harness asks."""
    rows = [{"question": question, "harbours": HARBOURS, "right": right} for right, question in enumerate(QUESTIONS)]
    data = folder / "harbours.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(folder / "datasets")},
        "test_split": "test",
        "doc_to_text": "{{question}}",
    }
    return [
        {
            **common,
            "task": "likeliest",
            "output_type": "multiple_choice",
            "doc_to_choice": "{{harbours}}",
            "doc_to_target": "{{right}}",
        },
        {
            **common,
            "task": "said",
            "output_type": "generate_until",
            "doc_to_target": "{{harbours[right]}}",
            "generation_kwargs": {"until": ["\n", " of"], "max_gen_toks": 8, "do_sample": False},
        },
    ]


def evaluated(model: LM, folder: Path) -> tuple[dict[str, Any], list[Any]]:
    """Scores by task, and everything that they were made from."""
    found = simple_evaluate(model, tasks=tasks(folder), task_manager=TaskManager(include_defaults=False), bootstrap_iters=0)
    return found["results"], [sample["resps"] for task in ("likeliest", "said") for sample in found["samples"][task]]


def test_an_edited_model_scores_through_the_api_as_in_process(service: Service, tmp_path: Path) -> None:
    facts = [{"prompt": question, "target": answer} for question, answer in zip(QUESTIONS, HARBOURS, strict=True)]
    service.wait_until_applied(service.post(facts))
    taken = tmp_path / "taken"
    exported(service, taken, "--format", "hf")
    api = f"{service.http.base_url}/v1/completions"
    served = LocalCompletionsAPI(
        model="errata", base_url=api, tokenizer=str(taken), tokenizer_backend="huggingface", batch_size=4, num_concurrent=2
    )
    scores, answers = evaluated(served, tmp_path)
    own_scores, own_answers = evaluated(HFLM(pretrained=str(taken), device="cpu", dtype="float32"), tmp_path)
    assert scores == own_scores
    assert answers[len(QUESTIONS) :] == own_answers[len(QUESTIONS) :]
    for mine, own in zip(answers[: len(QUESTIONS)], own_answers[: len(QUESTIONS)], strict=True):
        assert [float(score) for [[score, _]] in mine] == pytest.approx([float(score) for [[score, _]] in own], abs=1e-3)
