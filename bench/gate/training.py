"""Trains the encoder of questions: neighbouring relations apart, wordings of one together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import save
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from bench.gate.classes import classes
from bench.gate.contrast import NEAREST, contrastive_loss, drawn, members, nearest_classes
from bench.gate.network import Trained, split, states_of, vectors_of
from bench.quality.progress import Advance, Phases
from editor_core.scoped.encoder import wheel_folder
from editor_core.scoped.question import NAMELESS

STEPS = 500
RATE, PROJECTION_RATE, DECAY = 2e-4, 1e-3, 0.01
LOOK_AGAIN = 40  # steps, after which it is found out anew which classes are near each other
READING, TRAINING = "the lower layers", "training"
READING_STEPS = 10  # that take as long as the lower layers do


def train(console: Console, steps: int, seed: int, out: Path) -> float:
    """Writes what was trained; the last step's loss. Minutes on a CPU, 500 steps some nine."""
    from transformers import AutoModel, AutoTokenizer

    folder = wheel_folder()
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    asked = [(each, number) for number, wordings in enumerate(classes()) for each in wordings]
    texts = [wording.replace("{}", NAMELESS) for wording, _ in asked]
    torch.manual_seed(seed)
    network = split(model.eval())
    with Phases(console, {READING: READING_STEPS, TRAINING: steps}) as phase:
        with phase(READING) as advance:
            states = states_of(texts, tokenizer, model, advance)
        with phase(TRAINING) as advance:
            numbers = torch.tensor([number for _, number in asked])
            loss = learn(network, states, numbers, steps, advance)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(save(network.tensors()))
    return loss


def learn(
    network: Trained,
    states: Sequence[torch.Tensor],
    numbers: torch.Tensor,
    steps: int,
    advance: Advance,
) -> float:
    """The last step's loss. numbers: of each question its class, from 0."""
    layers = {"params": network.layers.parameters(), "lr": RATE}
    projection = {"params": network.projection.parameters(), "lr": PROJECTION_RATE}
    optimizer = AdamW([layers, projection], weight_decay=DECAY)
    schedule = OneCycleLR(optimizer, [RATE, PROJECTION_RATE], total_steps=steps)
    of_class, near, last = members(numbers), torch.empty(0), float("nan")
    for step in range(steps):
        if step % LOOK_AGAIN == 0:
            near = nearest_classes(vectors_of(states, network), numbers, NEAREST)
            network.train()
        places = drawn(of_class, near)
        vectors = network([states[place] for place in places.tolist()])
        loss = contrastive_loss(vectors, numbers[places])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        last = loss.item()
        advance((step + 1) / steps)
    network.eval()
    return last
