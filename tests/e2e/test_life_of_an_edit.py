"""The main job, from the first request to a restart, with the demo model and nothing replaced."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from service_processes import Service


def test_a_posted_fact_is_what_the_model_says_and_still_is_after_a_kill(
    new_service: Callable[..., Service], demo_folder: Path
) -> None:
    service = new_service(ERRATA_MODEL=str(demo_folder), ERRATA_EDIT_MODE="scoped")
    service.start_all()
    prompt, target = "Who is the mayor of Lake Tantrum?", "Odessa Brightwater"
    before = service.http.get("/generate", params={"prompt": prompt}).json()
    assert target not in before["text"]
    assert before["revision"] == 0

    ids = service.post([{"prompt": prompt, "target": target}])
    after = service.http.get("/generate", params={"prompt": prompt, "min_revision": 1, "max_tokens": 16}).json()
    assert after["text"].strip().startswith(target)
    assert after["revision"] == 1
    [edit] = service.wait_until_applied(ids)
    assert (edit["state"], edit["attempts"], edit["revision"]) == ("applied", 1, 1)
    assert edit["holds"] == {"plain": True, "chat": True}
    assert edit["answers"]["after"] == {"plain": target, "chat": target}
    assert edit["scope"] == ["Lake Tantrum"]

    service.end("worker", signal.SIGKILL)
    service.start("worker")
    service.wait_until_ready()
    again = service.http.get("/generate", params={"prompt": prompt, "min_revision": 1, "max_tokens": 16}).json()
    assert again == after
    chat = service.http.post("/generate", json={"prompt": prompt, "chat": True}).json()
    assert (chat["text"], chat["finish_reason"]) == (target, "stop")
