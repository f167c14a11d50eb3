"""Continuous batching: sequences join and leave between any two tokens, whatever each of them wants."""

from __future__ import annotations

from editor_core.generation.batcher import Batcher
from editor_core.generation.sampling import Sampling, Scored
from editor_core.generation.sequence import News, Sequence
from editor_core.generation.text import token_starts

__all__ = ["Batcher", "News", "Sampling", "Scored", "Sequence", "token_starts"]
