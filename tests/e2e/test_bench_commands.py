"""The commands that measure and judge a running service do what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from service_processes import Service, free_port

from bench.peers import PEERS

Start = Callable[..., Service]


def bench(command: str, service: Service, figures: Path, *more: str, **wishes: object) -> dict[str, Any]:
    options = {"url": str(service.http.base_url).rstrip("/"), "json": figures, **wishes}
    given = [f"--{name}={value}" for name, value in options.items()]
    done = subprocess.run(
        [sys.executable, "-m", "bench", command, *given, *more], env={**os.environ, **service.environment}, capture_output=True
    )
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return dict(json.loads(figures.read_text()))


def test_a_run_counts_every_answer(new_tiny_service: Start, tiny_folder: Path, tmp_path: Path) -> None:
    service = new_tiny_service()
    service.start_all()
    facts = tmp_path / "facts.json"
    facts.write_text(json.dumps([{"prompt": "Who is it?", "target": "Ann"}]))
    sizes = {"clients": 3, "answers": 2, "tokens": 8, "rounds": 1}
    found = bench("serve", service, tmp_path / "figures.json", "--no-peers", model=tiny_folder, facts=facts, **sizes)
    ours = found["errata"]
    assert [ours[name]["answers"] for name in ("1 client", "3 clients")] == [2, 6]
    assert ours["3 clients, editing"]["answers"] >= 6
    assert all(each["failed"] == 0 for each in ours.values())
    assert [edit["state"] for edit in service.edits()] == ["applied"]


def test_transformers_serve_is_asked_the_same(new_tiny_service: Start, tiny_folder: Path, tmp_path: Path) -> None:
    service = new_tiny_service()
    service.start_all()
    sizes = {"clients": 2, "answers": 1, "tokens": 6, "rounds": 1}
    found = bench("serve", service, tmp_path / "figures.json", model=tiny_folder, **sizes)
    said = {name: found[name]["2 clients"]["tokens"] for name in ("errata", *PEERS)}
    assert set(said.values()) == {12}
    assert found["ratios"]["2 clients / the best peer's"] > 0


def test_an_endurance_run_judges_every_answer(new_tiny_service: Start, tmp_path: Path) -> None:
    service = new_tiny_service()
    service.start_all()
    facts = tmp_path / "facts.json"
    facts.write_text(json.dumps([{"prompt": "Who is it?", "target": "Ann"}]))
    sizes = {"requests": 200, "clients": 4, "questions": 8, "tokens": 12, "revisions": 2}
    found = bench("endurance", service, tmp_path / "figures.json", facts=facts, **sizes)
    assert found["revisions"] >= 1
    assert all(each["kept"] for each in found["promises"].values())


# Found and not imported: locust puts gevent in the place of threads, in this process too.
@pytest.mark.skipif(find_spec("locust") is None, reason="needs the extra of the long measurements: errata-llm[bench]")
def test_a_crowd_leaves_nothing_behind(new_tiny_service: Start, tmp_path: Path) -> None:
    port = free_port()
    service = new_tiny_service(ERRATA_MAX_WAITING_GENERATIONS="4")
    service.environment["ERRATA_WORKER_METRICS_PORT"] = str(port)
    service.start_all()
    worker = f"http://127.0.0.1:{port}/metrics"
    found = bench("crowd", service, tmp_path / "figures.json", worker=worker, clients=20, minutes=0.3, waves=2)
    assert all(each["kept"] for each in found["promises"].values())
