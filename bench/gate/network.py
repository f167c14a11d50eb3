"""The sentence encoder in two: layers that stay as they are, and those that are trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence

from bench.quality.progress import Advance, in_parts
from editor_core.scoped.encoder import LONGEST

LAYERS, WIDTH = 2, 128  # that are trained; of a question's vector
DROPOUT = 0.1
BATCH = 128  # questions
HIDDEN_BY = -1e9  # what is added at a place that is not to be looked at
Item = TypeVar("Item", str, torch.Tensor)


class Trained(nn.Module):
    """The last layers of a sentence encoder, and a projection of their mean."""

    def __init__(self, layers: Sequence[nn.Module], first: int, hidden: int) -> None:
        """first: the number of the first of these layers in the encoder."""
        super().__init__()
        self._first = first
        self.layers = nn.ModuleList(layers)
        self.projection = nn.Linear(hidden, WIDTH, bias=False)
        nn.init.orthogonal_(self.projection.weight)
        for module in self.layers.modules():
            if isinstance(module, nn.Dropout):
                module.p = DROPOUT

    def forward(self, states: Sequence[torch.Tensor]) -> torch.Tensor:
        """Questions × width, of length 1. states: of each question, tokens × hidden."""
        hidden = pad_sequence(list(states), batch_first=True)
        lengths = torch.tensor([len(each) for each in states])
        mask = torch.arange(hidden.shape[1]) < lengths[:, None]
        added = torch.zeros(mask.shape).masked_fill(~mask, HIDDEN_BY)[:, None, None]
        for layer in self.layers:
            hidden = layer(hidden, added)
        mean = (hidden * mask[..., None]).sum(1) / lengths[:, None]
        return normalize(self.projection(mean), dim=1)

    def tensors(self) -> dict[str, torch.Tensor]:
        """In float16, by the names that `QuestionEncoder.load` reads."""
        found = {"projection": self.projection.weight}
        for number, layer in enumerate(self.layers, self._first):
            for name, tensor in layer.state_dict().items():
                found[f"encoder.layer.{number}.{name}"] = tensor
        return {name: each.detach().half().contiguous() for name, each in found.items()}


def split(model: Any) -> Trained:
    """Takes the last layers from a model, which has the others left."""
    layers, hidden = list(model.encoder.layer), int(model.config.hidden_size)
    first = len(layers) - LAYERS
    model.encoder.layer = nn.ModuleList(layers[:first])
    return Trained(layers[first:], first, hidden)


@torch.no_grad()
def states_of(
    texts: Sequence[str],
    tokenizer: Any,
    model: Any,
    advance: Advance,
) -> list[torch.Tensor]:
    """What the last layer of a model gives: of each text, tokens × hidden."""

    def read(part: Sequence[str]) -> list[torch.Tensor]:
        options = {"padding": True, "truncation": True, "max_length": LONGEST}
        inputs = tokenizer(list(part), return_tensors="pt", **options)
        lengths = inputs["attention_mask"].sum(1).tolist()
        hidden = model(**inputs).last_hidden_state
        return [row[:length].clone() for row, length in zip(hidden, lengths, strict=True)]

    return _by_length(texts, read, advance)


@torch.no_grad()
def vectors_of(states: Sequence[torch.Tensor], network: Trained) -> torch.Tensor:
    """Questions × width, without dropout."""
    network.eval()
    return torch.stack(_by_length(states, lambda part: list(network(part))))


def _by_length(
    items: Sequence[Item],
    read: Callable[[Sequence[Item]], list[torch.Tensor]],
    advance: Advance = lambda share: None,
) -> list[torch.Tensor]:
    """What is read of the items, in their order; items of like lengths are read together."""
    order = sorted(range(len(items)), key=lambda place: len(items[place]))
    found: dict[int, torch.Tensor] = {}
    for part in in_parts(order, BATCH, advance):
        found |= zip(part, read([items[place] for place in part]), strict=True)
    return [found[place] for place in range(len(items))]
