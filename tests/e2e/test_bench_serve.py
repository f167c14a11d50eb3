"""`python -m bench serve` measures what it says it does, with and without editing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from service_processes import Service


def test_a_run_counts_every_answer(new_tiny_service: Callable[..., Service], tiny_folder: Path, tmp_path: Path) -> None:
    service = new_tiny_service()
    service.start_all()
    facts, figures = tmp_path / "facts.json", tmp_path / "figures.json"
    facts.write_text(json.dumps([{"prompt": "Who is it?", "target": "Ann"}]))
    wishes = {"url": service.http.base_url, "model": tiny_folder, "facts": facts, "json": figures}
    sizes = {"clients": 3, "answers": 2, "tokens": 8}
    options = [f"--{name}={value}" for name, value in {**wishes, **sizes}.items()]
    subprocess.run([sys.executable, "-m", "bench", "serve", *options], check=True, env=os.environ)
    found = json.loads(figures.read_text())
    assert [found[name]["answers"] for name in ("1 client", "3 clients")] == [2, 6]
    assert found["3 clients, while editing"]["answers"] >= 6
    assert all(found[name]["failed"] == 0 for name in ("1 client", "3 clients", "3 clients, while editing"))
    assert [edit["state"] for edit in service.edits()] == ["applied"]
