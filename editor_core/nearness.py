"""Which edits a new one may have cost: those whose keys come nearest to opening its slots."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch

from editor_core.background import Background
from editor_core.breathing import breathe
from editor_core.change import NOBODY
from editor_core.masters import Masters

KEYS_AT_ONCE = 4096  # between two breathing points
NEAR_MISS = 0.2  # a key scores less than this below a slot's threshold: the prompts around it may score more than it does


def nearest_edits(
    masters: Masters, background: Background, sharpness: Mapping[str, float], edits: Collection[int], most: int
) -> list[int]:
    """Ids of up to `most` other edits, those first one of whose keys would open a slot of `edits` most nearly.

    sharpness: by bank of subject slots, what its detectors were multiplied by; the first of them decides which subject is
    meant. A key is what its own slot was made for, x = M d, and only like what its prompts are. So half of those found are
    the nearest in the deciding bank, however far; the others those whose key in any bank opens a slot but for a near miss.
    """
    by_subject: dict[int, float] = {}
    anywhere: dict[int, float] = {}
    for name, owners in masters.owners.items():
        ours = torch.isin(owners, torch.tensor(sorted(edits)))
        theirs = ~ours & (owners != NOBODY)
        if not bool(ours.any()) or not bool(theirs.any()):
            continue
        width = background[name].inputs.shape[1]
        detectors = masters[name][:, : width + 1].cpu() / sharpness.get(name, 1.0)
        keys = background[name].keys(detectors[theirs, :-1])
        closest = torch.cat([_margins(part, detectors[ours]) for part in torch.split(keys, KEYS_AT_ONCE)])
        deciding = name == next(iter(sharpness), None)
        for owner, margin in zip(owners[theirs].tolist(), closest.tolist(), strict=True):
            anywhere[owner] = max(margin, anywhere.get(owner, -NEAR_MISS))
            if deciding:
                by_subject[owner] = max(margin, by_subject.get(owner, margin))
    found = _nearest_first(by_subject)[: (most + 1) // 2]
    near = {owner: margin for owner, margin in anywhere.items() if margin > -NEAR_MISS and owner not in found}
    return [*found, *_nearest_first(near)][:most]


def _nearest_first(margins: Mapping[int, float]) -> list[int]:
    return sorted(margins, key=lambda owner: (-margins[owner], owner))


def _margins(keys: torch.Tensor, detectors: torch.Tensor) -> torch.Tensor:
    """How far each key's highest score is above the threshold of its detector: keys N × d_in, returns (N,)."""
    breathe()
    return (keys @ detectors[:, :-1].T - detectors[:, -1]).amax(1)
