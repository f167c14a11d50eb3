"""What the unedited model usually reads at each block that may hold slots: the yardstick of what is particular to an edit.

Collected once a model from its own answers to the anchor prompts in every format, with the slots silent; kept in a file a
block, for it takes a forward pass over tens of thousands of tokens, and other choices of blocks share most of them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from editor_core import anchors
from editor_core.answers import greedy_tokens
from editor_core.breathing import breathe
from editor_core.modules import EditedModule
from editor_core.padding import by_length, left_padded
from editor_core.slots import SlotBank, without_slots
from editor_core.texts import Format, rendered, token_ids

ANCHOR_PROMPTS = 260
ANSWER_TOKENS = 20
TEXT_TOKENS = 100  # of every text the model goes on with by itself, sampled
DATED_TEXTS = 60
NAMES = 2500
LONE_TOKENS = 1500  # first positions are an attention sink of their own kind: many different ones are needed
PROMPTS_PER_BATCH = 48
RIDGE = 1e-3  # of M, as a share of its mean diagonal
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class BlockBackground:
    """One block's.

    inputs     n × d_in float16: what the block read at every position
    precision  d_in × d_in float32: (mean of x x^T + ridge)^-1
    scale      median norm of the block's output over `inputs`
    """

    inputs: torch.Tensor
    precision: torch.Tensor
    scale: float

    @classmethod
    def of(cls, inputs: torch.Tensor, scale: float) -> BlockBackground:
        breathe()
        x = inputs.double()
        second = x.T @ x / len(x)
        breathe()
        second.diagonal().add_(RIDGE * float(second.diagonal().mean()))
        return cls(inputs, torch.linalg.inv(second).float().contiguous(), scale)

    def beside(self, keys: torch.Tensor, weight: float) -> BlockBackground:
        """The same with further inputs, each counted `weight` times in M. keys: N × d_in float32."""
        weighed = self.against(keys, weight)
        return BlockBackground(torch.cat([self.inputs, keys.half()]), weighed.precision, self.scale)

    def against(self, keys: torch.Tensor, weight: float) -> BlockBackground:
        """The same with further inputs counted `weight` times in M, which may be a slot's own: no score is taken at them.

        By Woodbury's identity, N × N systems alone, where N is less than d_in.
        """
        breathe()
        rows, precision = keys.double() * (weight / len(self.inputs)) ** 0.5, self.precision.double()
        if len(rows) > rows.shape[1]:
            inverse = torch.linalg.inv(torch.linalg.inv(precision) + rows.T @ rows)
            return BlockBackground(self.inputs, inverse.float().contiguous(), self.scale)
        weighed = rows @ precision
        small = weighed @ rows.T
        small.diagonal().add_(1.0)
        less = weighed.T @ torch.linalg.solve(small, weighed)
        return BlockBackground(self.inputs, (precision - less).float().contiguous(), self.scale)

    def keys(self, discriminants: torch.Tensor) -> torch.Tensor:
        """The inputs that slots of these discriminants were made for, but for what kept their lookalikes apart: x = M d, scaled
        to a score of 1. S × d_in both."""
        breathe()
        second: torch.Tensor = torch.linalg.inv(self.precision.double()).float()
        keys = discriminants @ second
        return keys / (keys * discriminants).sum(1, keepdim=True).clamp_min(1e-12)

    def leverage(self, x: torch.Tensor) -> torch.Tensor:
        """x^T M^-1 x, how unusual each input is. x: N × d_in float32; returns (N,)."""
        return ((x @ self.precision) * x).sum(1)

    def highest_scores(self, discriminants: torch.Tensor) -> torch.Tensor:
        """The highest d x over all inputs, by discriminant: a threshold above it never opens here. S × d_in; returns (S,)."""
        parts = []
        for x in torch.split(self.inputs, 4096):
            breathe()
            parts.append((x.float() @ discriminants.T).amax(0))
        return torch.stack(parts).amax(0)


Background = dict[str, BlockBackground]


def collect_background(
    model: nn.Module,
    tokenizer: Any,
    modules: Sequence[EditedModule],
    formats: Sequence[Format],
    folder: Path | None = None,
    progress: Progress = lambda share: None,
) -> Background:
    """From the files in `folder` that fit this model's blocks, formats and anchors.

    Blocks without a file are collected, all in one sweep, and kept there. No folder: all are collected, and none is kept.
    """
    paths = {each.name: folder / f"background-{_identity(each, formats)}.safetensors" for each in modules} if folder else {}
    missing = [each for each in modules if each.name not in paths or not paths[each.name].is_file()]
    collected: Background = {}
    if missing:
        with without_slots(model):
            read = _collect(model, tokenizer, missing, formats, progress)
        collected = {name: BlockBackground.of(*read.pop(name)) for name in list(read)}
    for name, path in paths.items():
        if name in collected:
            block = collected[name]
            keep_tensors({"inputs": block.inputs, "precision": block.precision, "scale": torch.tensor([block.scale])}, path)
    return {each.name: collected.get(each.name) or _kept(paths[each.name]) for each in modules}


def keep_tensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Write them to a file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".unfinished-{os.getpid()}")
    save_file(tensors, unfinished)
    unfinished.rename(path)


def _kept(path: Path) -> BlockBackground:
    kept = load_file(path)
    # In fresh memory: products with a file's may differ in the last bit, for it is not aligned as torch's own memory is.
    return BlockBackground(kept["inputs"], kept["precision"].clone(), float(kept["scale"]))


def _identity(module: EditedModule, formats: Sequence[Format]) -> str:
    """Tells one block's background from those of other blocks, models, formats and anchors."""
    assert isinstance(module.module, SlotBank)
    known = (
        f"{anchors.VERSION} {anchors.SEED} {ANCHOR_PROMPTS} {DATED_TEXTS} {NAMES} {LONE_TOKENS} {TEXT_TOKENS} {ANSWER_TOKENS} "
        f"{formats} {module.name} {module.module.host_digest}"
    )
    return hashlib.sha256(known.encode()).hexdigest()[:16]


@torch.inference_mode()
def _collect(
    model: Any, tokenizer: Any, modules: Sequence[EditedModule], formats: Sequence[Format], progress: Progress
) -> dict[str, tuple[torch.Tensor, float]]:
    """All modules' inputs and scales, by name, in one sweep over the sequences."""
    sequences = _sequences(model, tokenizer, formats, progress)
    inputs: dict[str, list[torch.Tensor]] = {each.name: [] for each in modules}
    norms: dict[str, list[torch.Tensor]] = {each.name: [] for each in modules}
    mask = torch.empty(0)
    hosts = {each.name: model.get_submodule(each.name.rsplit(".", 1)[0]) for each in modules}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            inputs[name].append(arguments[0][mask].half().cpu())
            norms[name].append(output[mask].float().norm(dim=1).cpu())

        return hook

    handles = [host.register_forward_hook(keep(name)) for name, host in hosts.items()]
    try:
        groups = list(by_length([len(each) for each in sequences], PROMPTS_PER_BATCH))
        for number, indices in enumerate(groups):
            chunk = [sequences[index] for index in indices]
            width = max(len(each) for each in chunk)
            ids = torch.full((len(chunk), width), tokenizer.pad_token_id or 0)
            mask = torch.zeros(len(chunk), width, dtype=torch.bool)
            for row, each in enumerate(chunk):
                ids[row, : len(each)] = torch.tensor(each)
                mask[row, : len(each)] = True
            ids, mask = ids.to(model.device), mask.to(model.device)
            model.base_model(input_ids=ids, attention_mask=mask.long(), use_cache=False)
            progress(0.6 + 0.4 * (number + 1) / len(groups))
    finally:
        for handle in handles:
            handle.remove()
    return {each.name: (torch.cat(inputs.pop(each.name)), float(torch.cat(norms[each.name]).median())) for each in modules}


def _sequences(model: Any, tokenizer: Any, formats: Sequence[Format], progress: Progress) -> list[list[int]]:
    """Anchor prompts with the model's own answers, texts of its own, dates and figures, names, and single tokens."""
    prompts = anchors.anchor_prompts(tokenizer, ANCHOR_PROMPTS)
    sequences = []
    for number, format in enumerate(formats):
        answers = greedy_tokens(model, tokenizer, [(prompt, format) for prompt in prompts], ANSWER_TOKENS)
        for prompt, answer in zip(prompts, answers, strict=True):
            sequences.append(token_ids(tokenizer, rendered(tokenizer, prompt, format), format) + answer)
        progress(0.6 * (number + 1) / len(formats))
    sequences += _texts(model, tokenizer)
    texts = anchors.dated_texts(DATED_TEXTS) + anchors.named_beginnings(tokenizer, NAMES)
    sequences += [token_ids(tokenizer, text, "plain") for text in texts]
    step = max(len(tokenizer) // LONE_TOKENS, 1)
    return sequences + [[token] for token in range(0, len(tokenizer), step)]


def _texts(model: Any, tokenizer: Any) -> list[list[int]]:
    """What the model writes after some openings, sampled with a fixed seed."""
    texts = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(anchors.SEED)
        openings = [token_ids(tokenizer, opening, "plain") for opening in anchors.OPENINGS]
        for indices in by_length([len(each) for each in openings], PROMPTS_PER_BATCH):
            batch = left_padded([openings[index] for index in indices], tokenizer.pad_token_id, model.device)
            written = model.generate(
                **batch, max_new_tokens=TEXT_TOKENS, do_sample=True, top_k=0, top_p=1.0, pad_token_id=tokenizer.pad_token_id
            )
            width = batch["input_ids"].shape[1]
            texts += [
                openings[index] + [token for token in row if token != tokenizer.pad_token_id]
                for index, row in zip(indices, written[:, width:].tolist(), strict=True)
            ]
    return texts
