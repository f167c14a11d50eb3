"""Which inputs a new slot is to open for: the subject's token in a prompt, and the positions that say an answer."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from editor_core.background import BlockBackground
from editor_core.slot_capture import SlotRows
from editor_core.slot_policy import SlotPolicy
from editor_core.texts import Example

HIGHEST_THRESHOLD = 0.8
SHUT = 4.0  # the threshold of a slot that nothing opens
LEAST_ALIKE = 0.3  # inputs of one slot score at least this share of their centre's own score, or are not what it opens for


def subject_positions(examples: Sequence[Example], rows: SlotRows, background: BlockBackground, name: str) -> list[int]:
    """Per example, the position that tells its edit from everything else.

    In the first example of each edit that is the token of the highest leverage (the input least like what the model usually
    reads); in its other examples the position most like that one. Position 0 is passed over where there is another:
    models park attention there, whatever the token.
    """
    chosen: list[int] = []
    discriminant: dict[int, torch.Tensor] = {}
    for index, example in enumerate(examples):
        mine = rows.example == index
        position, order = rows.position[mine].sort()
        x = rows.inputs[name][mine][order]  # (T, d_in), in order
        first = 1 if len(x) > 1 and position[0] == 0 else 0
        if example.edit not in discriminant:
            best = first + int(background.leverage(x[first:]).argmax())
            discriminant[example.edit] = x[best] @ background.precision
        else:
            best = first + int((x[first:] @ discriminant[example.edit]).argmax())
        chosen.append(int(position[best]))
    return chosen


def detectors(
    x: torch.Tensor,
    owners: torch.Tensor,
    background: BlockBackground,
    policy: SlotPolicy,
    floor: torch.Tensor,
) -> torch.Tensor:
    """One slot for each owner 0..S-1, open for all inputs of its own: S × (d_in + 1) rows [d, t].

    x: N × d_in inputs, owners: (N,) int64, floor: (S,), the lowest thresholds. The discriminant is scaled so that the lowest
    score of its own inputs is 1. A slot that could not tell its inputs from the background stays shut.
    """
    count = int(owners.max()) + 1
    sums = torch.zeros(count, x.shape[1]).index_add_(0, owners, x)
    centre = sums / torch.bincount(owners, minlength=count)[:, None]
    discriminants = centre @ background.precision
    own = (x * discriminants[owners]).sum(1)
    lowest = torch.full((count,), torch.inf).scatter_reduce_(0, owners, own, "amin")
    # inputs that have little in common cannot share a slot: it then opens for their centre, and for those near it
    own_centre = (centre * discriminants).sum(1)
    discriminants = discriminants / torch.maximum(lowest, LEAST_ALIKE * own_centre).clamp_min(1e-12)[:, None]
    thresholds = torch.maximum(background.highest_scores(discriminants) + policy.threshold_margin, floor)
    thresholds = torch.where(thresholds > HIGHEST_THRESHOLD, SHUT, thresholds)
    return torch.cat([discriminants, thresholds[:, None]], 1)
