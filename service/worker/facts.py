"""The facts and questions that come with the service, as JSON lines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editor_core.texts import Edit
from service.settings import FACTS, Settings


@dataclass(frozen=True, slots=True)
class Canary:
    """Questions and plain texts that no edit is about."""

    prompts: list[str]
    texts: list[str]


def read_facts(settings: Settings) -> list[Edit]:
    """The warm-up facts, as many as the settings say."""
    return [Edit(each["prompt"], each["target"]) for each in _lines(settings.warmup_facts)[: settings.warmup_size]]


def read_canary(_: Settings) -> Canary:
    lines = _lines(FACTS / "canary.jsonl")
    return Canary(
        [each["prompt"] for each in lines if "prompt" in each],
        [each["text"] for each in lines if "text" in each],
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
