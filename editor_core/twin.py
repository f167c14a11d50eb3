"""One model twice over: the same weights behind other module objects, so that one can be edited while the other answers.

Hooks, flags, replaced methods and the config of one are not the other's. Weights that are to differ are each one's own.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from itertools import chain
from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def twin(model: M, own: Collection[str]) -> M:
    """A model that computes the same.

    own: names of modules whose parameters are copies; all other parameters and buffers are the same tensors.
    """
    apart = {id(each) for name in own for each in model.get_submodule(name).parameters()}
    tensors = chain(model.parameters(), model.buffers())
    return copy.deepcopy(model, {id(each): each for each in tensors if id(each) not in apart})
