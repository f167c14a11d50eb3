"""The plain texts whose perplexity is watched."""

from __future__ import annotations

import json
import random
from pathlib import Path

AT_MOST = 100
TASK, FIELD = "rte", "sentence1"  # sentences from news and encyclopedias


def plain_texts(file: Path | None, downstream: Path | None, seed: int) -> list[str]:
    """The lines of a file that hold something; without one, AT_MOST sentences out of the downstream tasks; else none."""
    if file is not None:
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if downstream is None:
        return []
    items = json.loads(downstream.read_text(encoding="utf-8")).get(TASK, [])
    texts = sorted({item[FIELD].strip() for item in items})
    return random.Random(seed).sample(texts, min(AT_MOST, len(texts)))
