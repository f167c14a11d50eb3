"""Subjects of many edits: those of real facts as far as they reach, then made up."""

from __future__ import annotations

import json
from pathlib import Path


def names(data: Path | None, size: int) -> list[str]:
    """Of so many edits; several real facts may have one subject."""
    real = [row["subject"] for row in json.loads(data.read_text(encoding="utf-8"))] if data else []
    return (real + [f"Kelm{number:x} Vard{number * 7919 % 65521:x}" for number in range(size)])[:size]
