"""The facts that come with the service: JSON lines with a prompt and a target each."""

from __future__ import annotations

import json

from editor_core.texts import Edit
from service.settings import Settings

DECOYS = 60


def read_facts(settings: Settings) -> list[Edit]:
    """The warm-up facts, as many as the settings say."""
    return _all_facts(settings)[: settings.warmup_size]


def decoys(settings: Settings) -> list[Edit]:
    """Facts that stand for other edits where answer slots are made; whatever the size of the warm-up."""
    return _all_facts(settings)[-DECOYS:]


def _all_facts(settings: Settings) -> list[Edit]:
    with settings.warmup_facts.open(encoding="utf-8") as lines:
        facts = [json.loads(line) for line in lines if line.strip()]
    return [Edit(fact["prompt"], fact["target"]) for fact in facts]
