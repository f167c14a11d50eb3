"""The model taken away from a running service: it answers the same elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import safe_open
from service_processes import Service
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.e2e import parts

FACTS = [{"prompt": f"Which harbour is number {number} on the list?", "target": f"Port {number}"} for number in range(3)]
PLAIN_TRANSFORMERS = """
import json, sys
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, said = sys.argv[1], []
model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
for prompt, chat in json.loads(sys.argv[2]):
    turns = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False) if chat else prompt
    inputs = tokenizer(text, return_tensors="pt", add_special_tokens=not chat)
    output = model.generate(**inputs, max_new_tokens=16, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    said.append(tokenizer.decode(output, skip_special_tokens=True))
print(json.dumps([said, sorted(sys.modules)]))
"""


def export(service: Service, out: Path, *arguments: str) -> parts.Done:
    return parts.errata(service.environment, "export", "--out", str(out), *arguments)


def exported(service: Service, out: Path, *arguments: str) -> str:
    done = export(service, out, *arguments)
    assert done.returncode == 0, done.stdout
    assert [path.name for path in out.parent.iterdir() if "unfinished" in path.name] == []
    return done.stdout


def says(service: Service, prompt: str, chat: bool) -> str:
    answer = service.http.post("/generate", json={"prompt": prompt, "chat": chat, "max_tokens": 16})
    return str(answer.json()["text"])


def elsewhere(folder: Path, questions: list[tuple[str, bool]]) -> list[str]:
    """What the folder says in a process of its own, away from this code."""
    arguments = [str(folder.resolve()), json.dumps(questions)]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_TRANSFORMERS, *arguments],
        cwd=folder,
        env=clean,
        capture_output=True,
        text=True,
        check=True,
    )
    said, modules = json.loads(done.stdout.splitlines()[-1])
    assert not [name for name in modules if name.split(".")[0] in ("editor_core", "service")]
    return list(said)


def test_edits_are_taken_away_at_the_head_and_at_an_earlier_revision(
    new_tiny_service: Callable[..., Service], tmp_path: Path
) -> None:
    service = new_tiny_service()
    service.start_all()
    questions = [(fact["prompt"], chat) for fact in FACTS[:2] for chat in (False, True)]
    said: list[list[str]] = []
    for fact in FACTS[:2]:
        service.wait_until_applied(service.post([fact]))
        said.append([says(service, *question) for question in questions])
    assert said[0] != said[1]

    exported(service, tmp_path / "head", "--format", "hf")
    assert elsewhere(tmp_path / "head", questions) == said[1]
    exported(service, tmp_path / "earlier", "--format", "hf", "--revision", "2")
    assert elsewhere(tmp_path / "earlier", questions) == said[0]
    edits = [json.loads(line) for line in (tmp_path / "earlier" / "edits.jsonl").read_text().splitlines()]
    assert [(each["id"], each["revision"], each["target"]) for each in edits] == [(1, 2, "Port 0")]

    exported(service, tmp_path / "changed", "--format", "safetensors")
    head = service.stats()["head"]
    with safe_open(tmp_path / "changed" / "changed.safetensors", "pt") as file:
        assert file.metadata()["fingerprint"] == head["fingerprint"]
        assert file.metadata()["row_hash"] == head["row_hash"]


def test_matrices_are_taken_away_whole_or_as_an_adapter(
    new_tiny_service: Callable[..., Service], tiny_folder: Path, tmp_path: Path
) -> None:
    service = new_tiny_service()
    service.start_all()
    service.wait_until_applied(service.post(FACTS))
    questions = [(fact["prompt"], False) for fact in FACTS]
    said = [says(service, *question) for question in questions]

    exported(service, tmp_path / "whole", "--format", "hf")
    assert elsewhere(tmp_path / "whole", questions) == said
    assert "0.00% in total" in exported(service, tmp_path / "adapter", "--format", "lora", "--rank", "64")
    base = AutoModelForCausalLM.from_pretrained(tiny_folder)
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    assert _answers(PeftModel.from_pretrained(base, tmp_path / "adapter"), tokenizer, questions) == said
    assert "approximation" in exported(service, tmp_path / "small", "--format", "lora", "--rank", "1")


@torch.no_grad()
def _answers(model: Any, tokenizer: Any, questions: list[tuple[str, bool]]) -> list[str]:
    found = []
    for prompt, chat in questions:
        turns = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False) if chat else prompt
        inputs = tokenizer(text, return_tensors="pt", add_special_tokens=not chat)
        output = model.generate(**inputs, max_new_tokens=16, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        found.append(tokenizer.decode(output, skip_special_tokens=True))
    return found
