"""Supervised contrastive learning: which questions a step sees, and its loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import normalize

DRAWN = 14  # classes by lot
NEAREST = 8  # classes that are taken to be easily confused with one
BESIDE = 3  # of those, of each class that is drawn
WORDINGS = 4  # of each class, at most
TEMPERATURE = 0.07
NEVER = -1e9


def members(classes: torch.Tensor) -> list[torch.Tensor]:
    """By class: where its wordings stand."""
    return [(classes == each).nonzero()[:, 0] for each in range(int(classes.max()) + 1)]


def nearest_classes(vectors: torch.Tensor, classes: torch.Tensor, count: int) -> torch.Tensor:
    """Classes × count: those with the nearest centres. vectors are of length 1."""
    number = int(classes.max()) + 1
    sums = torch.zeros(number, vectors.shape[1]).index_add_(0, classes, vectors)
    centres = normalize(sums, dim=1)
    return (centres @ centres.T - 2 * torch.eye(number)).topk(count, 1).indices


def drawn(of_class: Sequence[torch.Tensor], near: torch.Tensor) -> torch.Tensor:
    """Where the wordings of one step stand: of some classes, and of those that are near them."""
    some = torch.randperm(len(of_class))[:DRAWN]
    beside = near[some][:, torch.randint(0, near.shape[1], (BESIDE,))]
    chosen = torch.unique(torch.cat([some, beside.flatten()])).tolist()
    places = [of_class[each] for each in chosen]
    return torch.cat([each[torch.randperm(len(each))[:WORDINGS]] for each in places])


def contrastive_loss(vectors: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """How hard it is to tell each wording's own class; two wordings or more of every class."""
    itself = torch.eye(len(vectors), dtype=torch.bool)
    likeness = (vectors @ vectors.T / TEMPERATURE).masked_fill(itself, NEVER)
    same = (classes[:, None] == classes[None]) & ~itself
    logarithms = likeness - likeness.logsumexp(1, keepdim=True)
    return -(logarithms.masked_fill(~same, 0).sum(1) / same.sum(1)).mean()
