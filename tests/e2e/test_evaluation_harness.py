"""lm-evaluation-harness scores a running service as it scores the same model in its own process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service_processes import Service

from editor_core.loading import load_model
from tests.conftest import MODELS, Servers
from tests.e2e.conftest import tiny_service

pytest.importorskip("lm_eval", reason="lm-eval is an extra of its own: pip install -c constraints.txt -e '.[harness]'")

PAIRS = [("The capital of France is", " Paris"), ("The capital of France is", " London town"), ("One two three", " four five")]


@pytest.fixture
def service(servers: Servers, tiny_folder: Path, tmp_path: Path) -> Iterator[Service]:
    service = tiny_service(servers, tiny_folder, tmp_path)
    service.start_all()
    yield service
    service.stop()


def requests() -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(PAIRS)]


def test_scores_through_the_api_are_those_in_process(service: Service, tiny_folder: Path) -> None:
    from lm_eval.models.huggingface import HFLM
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    loaded = load_model(str(tiny_folder), cache_dir=MODELS)
    own = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer).loglikelihood(requests(), disable_tqdm=True)
    served = LocalCompletionsAPI(
        model="errata",
        base_url=f"{service.http.base_url}/v1/completions",
        tokenizer=str(tiny_folder),
        tokenizer_backend="huggingface",
        num_concurrent=2,
    ).loglikelihood(requests(), disable_tqdm=True)
    assert [greedy for _, greedy in served] == [greedy for _, greedy in own]
    assert [score for score, _ in served] == pytest.approx([score for score, _ in own], abs=1e-3)
