"""A model with scoped edits taken away: it answers the same elsewhere, without this project."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from service.worker.export.command import export_model
from service.worker.export.request import Request
from tests.worker_scoped.conftest import MAYOR, OWNER, Desk, quiet

ELSEWHERE = """
import json, sys
sys.path = [path for path in sys.path if path and "site-packages" in path or "lib/python" in path]
sys.path.insert(0, sys.argv[1])
import editor_core
from editor_core.scoped.attached import load
model, tokenizer = load(sys.argv[1])
said = []
for prompt in json.loads(sys.argv[2]):
    turns = [{"role": "user", "content": prompt}]
    inputs = tokenizer(tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False), return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=16, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    said.append(tokenizer.decode(output, skip_special_tokens=True))
print(json.dumps([said, editor_core.__file__, "service" in sys.modules]))
"""


def elsewhere(folder: Path, questions: list[str]) -> list[Any]:
    """What the folder says in a process of its own, with the package that is in it."""
    arguments = [sys.executable, "-c", ELSEWHERE, str(folder), json.dumps(questions)]
    ran = subprocess.run(arguments, cwd=folder.parent, capture_output=True, text=True, check=True)
    return list(json.loads(ran.stdout.splitlines()[-1]))


async def test_a_folder_for_transformers_answers_as_the_service_does(desk: Desk, tmp_path: Path) -> None:
    await desk.edit(OWNER, MAYOR)
    questions = ["who owns castle orwin", "Who is the mayor of Lake Tantrum?", "Where is Castle Orwin?", "What is rain?"]
    said = [await desk.said(each) for each in questions]
    assert said[:2] == [OWNER.target, MAYOR.target]
    out = tmp_path / "taken"
    done = await desk.thread.run(export_model, desk.settings, Request("hf", out), lambda doing, share: quiet(doing))
    assert "2 of 2 facts" in done.written.verified
    found, package, is_here = await asyncio.to_thread(elsewhere, out, questions)
    assert (found, is_here) == (said, False)
    assert Path(package).is_relative_to(out)


async def test_merged_weights_say_what_merging_did(desk: Desk, tmp_path: Path) -> None:
    await desk.edit(OWNER)
    request = Request("merged", tmp_path / "merged")
    done = await desk.thread.run(export_model, desk.settings, request, lambda doing, share: quiet(doing))
    assert "asked after merging: " in done.written.verified
    assert any("Scope and gate are not in it" in each for each in done.written.warnings)
    assert not (tmp_path / "merged" / "editor_core").exists()
