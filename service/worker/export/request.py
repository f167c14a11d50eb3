"""What an export is asked for, and what a format's writer says about what it has written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Format = Literal["hf", "safetensors", "merged", "lora"]
THIS_FOLDER = "THIS_FOLDER"


@dataclass(frozen=True, slots=True)
class Request:
    """What is wanted.

    out                 a folder that is not there yet, or empty
    revision            None for the head
    dtype               hf and merged: of the weights
    rank                lora: of every weight's change
    accept_differences  keep what answers differently, with the figures in its README
    """

    format: Format
    out: Path
    revision: int | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    rank: int = 16
    accept_differences: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """What there is to say about a format's files, line by line.

    facts     what they are
    verified  what was found out about them
    warnings  what their user has to know
    loading   Python that loads them, with THIS_FOLDER in place of where they are
    """

    facts: tuple[str, ...]
    verified: str
    loading: str
    warnings: tuple[str, ...] = ()
