"""Calibration: which blocks of a model nobody has edited before hold slots best, and how large a subject's steps are to be.

One coordinate after the other, from the places by depth on: answer blocks, subject blocks, step. All sizes are relative to
the model's own norms, so there is no scale to search for. A model that slots would not do in is refused, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from editor_core.background import collect_background
from editor_core.errors import CannotEditError, ConfigError
from editor_core.modules import resolve_modules
from editor_core.profile import Profile
from editor_core.reference import Reference
from editor_core.slot_defaults import (
    ANSWER_DEPTHS,
    SUBJECT_DEPTHS,
    blocks_at,
    default_profile,
    gated_blocks,
)
from editor_core.slot_policy import SUBJECT_STEP
from editor_core.slots import GATED_PARTS, attach_slots
from editor_core.texts import Edit
from editor_core.trial import LEAST_HOLDING, PolicyOf, Trial, TrialBench

ANSWER_CHOICES = (ANSWER_DEPTHS, (0.70, 0.79), (0.86, 0.93))
SUBJECT_CHOICES = (SUBJECT_DEPTHS, (0.17, 0.21, 0.24, 0.28, 0.345, 0.41), (0.31, 0.345, 0.38, 0.41, 0.48, 0.55))
STEP_CHOICES = (SUBJECT_STEP, SUBJECT_STEP / 2, SUBJECT_STEP * 2)
GUESSING = 0.1  # of the vocabulary: a perplexity above this is that of a model which says anything at all

Progress = Callable[[str, float], None]  # what is being done, and the share of it that is
Choices = dict[str, tuple[Any, ...]]  # by field of a profile, in the order of the search


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """What a model is calibrated on.

    facts            taught as one batch; their rephrases are asked, not taught
    warmup           seen by the statistics before
    canary_prompts   what the facts are not about
    canary_texts     likewise; also what tells a language model from random weights
    """

    facts: Sequence[Edit]
    warmup: Sequence[Edit]
    canary_prompts: Sequence[str]
    canary_texts: Sequence[str]


@dataclass(frozen=True, slots=True)
class Calibration:
    """All profiles tried, in order, and the best of them."""

    trials: tuple[Trial, ...]
    best: Trial


def calibrate(
    model: nn.Module,
    tokenizer: Any,
    policy_of: PolicyOf,
    data: CalibrationSet,
    folder: Path,
    progress: Progress = lambda doing, share: None,
) -> Calibration:
    """Try at most seven profiles. Leaves the model with empty banks at all blocks tried.

    policy_of   a profile with everything about slots that is not in it; formats and all else are the same for all profiles
    folder      where the background of the blocks tried is kept, a file a block

    Raises CannotEditError, which says why, when no profile would do.
    """
    blocks = gated_blocks(model)
    if not blocks:
        raise CannotEditError(f"it has no gated feed-forward blocks ({', '.join(GATED_PARTS)}) that slots could be put in")
    start, choices = _search_space(blocks)
    progress("asking the unedited model", 0.0)
    formats = policy_of(start).formats
    reference = Reference.of(model, tokenizer, data.canary_prompts, formats, data.canary_texts)
    _check_models_text(reference, len(tokenizer))
    modules = resolve_modules(model, attach_slots(model, _all_blocks(blocks, choices)))
    collect_background(
        model, tokenizer, modules, formats, folder, lambda share: progress("reading what the unedited model says", share)
    )
    bench = TrialBench(model, tokenizer, policy_of, data.facts, data.warmup, reference, folder)
    trials = tuple(_search(bench, start, choices, progress))
    best = max(trials, key=Trial.rank)
    if not best.holds:
        raise CannotEditError(
            f"with the best of {len(trials)} profiles {best.holding:.0%} of {len(data.facts)} facts hold, "
            f"and {LEAST_HOLDING:.0%} would be needed"
        )
    return Calibration(trials, best)


def _search_space(blocks: Sequence[str]) -> tuple[Profile, Choices]:
    try:
        start = default_profile(blocks)
    except ConfigError:
        raise CannotEditError(
            f"it has too few gated feed-forward blocks ({len(blocks)}): subjects and answers need blocks of their own"
        ) from None
    return start, {
        "answer_blocks": tuple(blocks_at(blocks, depths) for depths in ANSWER_CHOICES),
        "subject_blocks": tuple(blocks_at(blocks, depths) for depths in SUBJECT_CHOICES),
        "subject_step": STEP_CHOICES,
    }


def _all_blocks(blocks: Sequence[str], choices: Choices) -> list[str]:
    wanted = {block for field in ("answer_blocks", "subject_blocks") for choice in choices[field] for block in choice}
    return [block for block in blocks if block in wanted]


def _check_models_text(reference: Reference, vocabulary: int) -> None:
    """Raises CannotEditError for weights that do not model text, or whose answers are not numbers."""
    assert reference.perplexity is not None
    if not math.isfinite(reference.perplexity) or reference.perplexity > GUESSING * vocabulary:
        raise CannotEditError(
            f"it does not model text: perplexity {reference.perplexity:,.0f} of a vocabulary of {vocabulary:,} "
            "is no better than guessing"
        )


def _search(bench: TrialBench, start: Profile, choices: Choices, progress: Progress) -> Iterator[Trial]:
    """Every profile once: of each field all choices, the other fields as they did best so far."""
    tried: dict[Profile, Trial] = {}
    total = sum(map(len, choices.values())) - len(choices) + 1  # the start is among the choices of every field
    best = start
    for field, options in choices.items():
        for option in options:
            profile = _with(best, field, option)
            if profile is None or profile in tried:
                continue
            progress("teaching the calibration facts", len(tried) / total)
            tried[profile] = bench.trial(profile)
            yield tried[profile]
        best = max(tried.values(), key=Trial.rank).profile
    progress("teaching the calibration facts", 1.0)


def _with(profile: Profile, field: str, option: Any) -> Profile | None:
    """None where a block would hold both kinds of slots, as it may in a model of few blocks."""
    changed: dict[str, Any] = {field: option}
    try:
        return replace(profile, **changed)
    except ConfigError:
        return None
