"""The classes of wordings that the encoder is trained on: those of one class ask the same."""

from __future__ import annotations

from pathlib import Path

from bench.gate.minimal_pairs import Wordings, minimal_pairs

RELATIONS = Path(__file__).with_name("relations.txt")  # one a line, wordings between " | "


def classes() -> list[Wordings]:
    """All of them. Their order and the seed say what is drawn in training."""
    return [*relations(), *minimal_pairs()]


def relations() -> list[Wordings]:
    """Those that were written one by one: of people, things and work."""
    lines = RELATIONS.read_text(encoding="utf-8").splitlines()
    return [tuple(line.strip().split(" | ")) for line in lines if line.strip()]
