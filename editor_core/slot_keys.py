"""Which inputs a new slot is to open for: the subject's token in a prompt, and the positions that say an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from editor_core.background import BlockBackground
from editor_core.slot_capture import SlotRows
from editor_core.texts import Example

HIGHEST_THRESHOLD = 0.85
LOOKALIKE_WEIGHT = 100.0  # of one of them, in inputs of the background
LONGEST_NAME = 10  # tokens
INDISTINCT = 0.95  # the background's highest score from which on a slot would open for no reason of its own
SHUT = 4.0  # the threshold of a slot that nothing opens
LEAST_ALIKE = 0.3  # inputs of one slot score at least this share of their centre's own score, or are not what it opens for


def subject_positions(
    tokenizer: Any, examples: Sequence[Example], rows: SlotRows, background: BlockBackground, name: str
) -> list[int]:
    """Per example, the position that tells its edit from everything else.

    In the first example of each edit that is the token of the highest leverage (the input least like what the model usually
    reads), among those of names where there are any, or rather the last token of its name; in its other examples the position
    most like that one. Position 0 is passed over where there is another: models park attention there, whatever the token.
    """
    chosen: list[int] = []
    discriminant: dict[int, torch.Tensor] = {}
    for index, example in enumerate(examples):
        mine = rows.example == index
        position, order = rows.position[mine].sort()
        x = rows.inputs[name][mine][order]  # (T, d_in), in order
        first = 1 if len(x) > 1 and position[0] == 0 else 0
        if example.edit not in discriminant:
            leverage = background.leverage(x)
            named = torch.tensor(in_names([tokenizer.decode([token]) for token in example.prompt]))[position]
            leverage[~named if bool(named.any()) else position < first] = 0.0
            best = int(leverage.argmax())
            best += name_end([tokenizer.decode([token]) for token in example.prompt[int(position[best]) :]])
            discriminant[example.edit] = x[best] @ background.precision
        else:
            best = first + int((x[first:] @ discriminant[example.edit]).argmax())
        chosen.append(int(position[best]))
    return chosen


def in_names(tokens: Sequence[str]) -> list[bool]:
    """Which tokens are in words that begin with a capital, or in numbers; the first word of all says nothing by its capital."""
    named, first, current, begun = [], True, False, False
    for token in tokens:
        if (token[:1].isspace() or not token[:1].isalnum()) and begun:
            first, begun = False, False
        letters = token.strip()
        if letters and not begun:
            current, begun = not first and (letters[:1].isupper() or letters[:1].isdigit()), letters[:1].isalnum()
        named.append(current and bool(letters))
    return named


def name_end(tokens: Sequence[str]) -> int:
    """How many tokens on from the first its word ends, and the words in capitals and the numbers that follow it.

    A name is surest at its end, where the model has read all of it.
    """
    end = 0
    while end + 1 < min(len(tokens), LONGEST_NAME):
        following = tokens[end + 1] if tokens[end + 1].strip() or end + 2 >= len(tokens) else " " + tokens[end + 2]
        within = following[:1].isalnum() or (following[:1] in "-'’" and end + 2 < len(tokens) and tokens[end + 2][:1].isalnum())
        if not within and not (following[:1] == " " and (following[1:2].isupper() or following[1:2].isdigit())):
            break
        end += 1
    return end


def detectors(
    x: torch.Tensor,
    owners: torch.Tensor,
    background: BlockBackground,
    floor: torch.Tensor,
    margin: float,
    lookalikes: torch.Tensor | None = None,
    highest_for_lookalikes: float = HIGHEST_THRESHOLD,
) -> torch.Tensor:
    """One slot for each owner 0..S-1, open for all inputs of its own: S × (d_in + 1) rows [d, t].

    x: N × d_in inputs, owners: (N,) int64. The discriminant is scaled so that the lowest score of its own inputs is 1.
    floor: (S,), the lowest thresholds; margin: how far above the highest score of what it is not to open for a threshold is.
    lookalikes: S × C × d_in, inputs that each slot is not to open for; they count LOOKALIKE_WEIGHT times in its own M, and
    raise thresholds to highest_for_lookalikes at most.
    A slot that could not tell its inputs from the background stays shut; one that can hardly tell its lookalikes opens late.
    """
    count = int(owners.max()) + 1
    sums = torch.zeros(count, x.shape[1]).index_add_(0, owners, x)
    centre = sums / torch.bincount(owners, minlength=count)[:, None]
    discriminants = centre @ background.precision
    if lookalikes is not None:
        discriminants = _without(discriminants, lookalikes, background)
    own = (x * discriminants[owners]).sum(1)
    lowest = torch.full((count,), torch.inf).scatter_reduce_(0, owners, own, "amin")
    # inputs that have little in common cannot share a slot: it then opens for their centre, and for those near it
    own_centre = (centre * discriminants).sum(1)
    discriminants = discriminants / torch.maximum(lowest, LEAST_ALIKE * own_centre).clamp_min(1e-12)[:, None]
    highest = background.highest_scores(discriminants)
    thresholds = torch.where(highest > INDISTINCT, SHUT, torch.maximum(highest + margin, floor).clamp_max(HIGHEST_THRESHOLD))
    if lookalikes is not None:
        alike = torch.einsum("scd,sd->sc", lookalikes, discriminants).amax(1)
        thresholds = torch.maximum(thresholds, (alike + margin).clamp_max(highest_for_lookalikes))
    return torch.cat([discriminants, thresholds[:, None]], 1)


def _without(discriminants: torch.Tensor, lookalikes: torch.Tensor, background: BlockBackground) -> torch.Tensor:
    """d = (M + w/n N^T N)^-1 x for each slot's own lookalikes N, from M^-1 x by Woodbury's identity: C × C systems alone."""
    weighed = lookalikes @ background.precision  # S × C × d_in
    small = weighed @ lookalikes.transpose(1, 2)
    small.diagonal(dim1=1, dim2=2).add_(len(background.inputs) / LOOKALIKE_WEIGHT)
    found = torch.linalg.solve(small, torch.einsum("scd,sd->sc", lookalikes, discriminants))
    return discriminants - torch.einsum("sc,scd->sd", found, weighed)
