"""The direct form of one editing step: the method's formulas as they are written, without any identity that saves work.

Every logit and every weight gradient is computed, keys and value gradients go through files, the statistics advance one
(mini-batch, layer) at a time in float32, Sigma_v is decomposed once per layer and the ridge system is d_in × d_in.
It knows nothing of `editor_core` but the names in its config, so that agreement with it means something.

How closely the two agree is limited by this form's float32 ridge system, of condition number ||H||^2 / alpha. Measured on a
step of 100 zsRE edits over 18 layers of SmolLM2-135M, largest relative difference of any module: 1.9e-4 with a warm-up step
of each form's own, 9e-5 from one common state, 1.7e-5 from there with the ridge system in float64. Sigma_v's
eigendecomposition in float64 changes nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

EPS = torch.finfo(torch.float32).eps
EIGENVALUE_FLOOR = 1e-6
IGNORED_LABEL = -100

Minibatch = Mapping[str, torch.Tensor]
Stage = Callable[[str], AbstractContextManager[Any]]  # told what is being done, for a stopwatch


@dataclass(frozen=True, slots=True)
class Estimate:
    """Running statistics of the rows [h, v] of one weight shape, float32; co_moment is v's, d_out × d_out."""

    n: int
    mean: torch.Tensor
    second_moment: torch.Tensor
    co_moment: torch.Tensor

    @classmethod
    def empty(cls, d_in: int, d_out: int) -> Estimate:
        return cls(0, torch.zeros(d_in + d_out), torch.zeros(d_in + d_out), torch.zeros(d_out, d_out))

    def merged(self, keys: torch.Tensor, gradients: torch.Tensor, unbiased: bool) -> Estimate:
        """Chan's parallel form: this estimate and one group of rows (N × d_in, N × d_out) together."""
        rows = torch.cat([keys, gradients], dim=1)
        added, total = len(rows), self.n + len(rows)
        mean = rows.mean(0)
        delta = mean - self.mean
        weight = self.n * added / total
        scatter = (rows - mean).square().sum(0) * (added / (added - 1) if unbiased and added > 1 else 1.0)
        values, shift = gradients - gradients.mean(0), delta[keys.shape[1] :]
        return Estimate(
            n=total,
            mean=self.mean + delta * (added / total),
            second_moment=self.second_moment + scatter + weight * delta.square(),
            co_moment=self.co_moment + values.T @ values + weight * torch.outer(shift, shift),
        )


Shape = tuple[int, int]
Estimates = dict[Shape, Estimate]


def direct_step(
    model: nn.Module,
    config: Any,
    statistics: Estimates,
    minibatches: Sequence[Minibatch],
    phase: str,
    folder: Path,
    stage: Stage = lambda name: nullcontext(),
) -> tuple[dict[str, torch.Tensor], Estimates]:
    """The update of one batch, {module: d_in × d_out float32}, and the statistics after it; the model stays as it is.

    config      modules, lr, algorithm, alpha, as in EditorConfig (the loss is the mean over the mini-batch's answer tokens)
    statistics  those before this batch, {} at the beginning
    folder      where keys and value gradients are written to and read back from
    """
    with stage("capture"):
        for number, minibatch in enumerate(minibatches):
            _capture(model, config.modules, minibatch, folder, number)
    with stage("statistics"):
        statistics = _observe(statistics, config, len(minibatches), folder)
    with stage("solve"):
        deltas = {name: _delta(name, config, statistics, phase, len(minibatches), folder) for name in config.modules}
    return deltas, statistics


def _capture(model: nn.Module, names: Sequence[str], minibatch: Minibatch, folder: Path, number: int) -> None:
    """One whole forward and backward pass; writes keys and value gradients at the answer positions, a file per layer."""
    inputs: dict[str, torch.Tensor] = {}
    gradients: dict[str, torch.Tensor] = {}
    handles = []
    for name in names:
        module = model.get_submodule(name)
        handles.append(module.register_forward_hook(lambda _, args, out, name=name: inputs.update({name: args[0].detach()})))
        handles.append(module.register_full_backward_hook(lambda _, grads, outs, name=name: gradients.update({name: outs[0]})))
    wanting = [parameter.requires_grad for parameter in model.parameters()]
    model.requires_grad_(True)
    labels = minibatch["labels"].long()
    logits = model(input_ids=minibatch["input_ids"], attention_mask=minibatch["attention_mask"], use_cache=False).logits
    functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED_LABEL).backward()
    mask = labels != IGNORED_LABEL
    for name in names:
        rows = {"keys": inputs[name][mask].float(), "gradients": gradients[name][mask].float()}
        torch.save(rows, _file(folder, number, name))
    for handle in handles:
        handle.remove()
    model.zero_grad(set_to_none=True)
    for parameter, wants in zip(model.parameters(), wanting, strict=True):
        parameter.requires_grad_(wants)


def _observe(before: Estimates, config: Any, count: int, folder: Path) -> Estimates:
    """The statistics with every (mini-batch, layer) merged in, in that order."""
    after = dict(before)
    for number in range(count):
        for name in config.modules:
            rows = torch.load(_file(folder, number, name))
            shape = rows["keys"].shape[1], rows["gradients"].shape[1]
            estimate = after.get(shape) or Estimate.empty(*shape)
            after[shape] = estimate.merged(rows["keys"], rows["gradients"], unbiased=config.algorithm == "ultraedit")
    return after


def _delta(name: str, config: Any, statistics: Estimates, phase: str, count: int, folder: Path) -> torch.Tensor:
    """One layer: normalise, form the target rows, solve (H^T H + alpha I) Delta = H^T V."""
    files = [torch.load(_file(folder, number, name)) for number in range(count)]
    keys = torch.cat([each["keys"] for each in files])  # (N, d_in)
    gradients = torch.cat([each["gradients"] for each in files])  # (N, d_out)
    d_in, d_out = keys.shape[1], gradients.shape[1]
    estimate = statistics[d_in, d_out]
    std = (estimate.second_moment / (estimate.n - 1 + EPS)).sqrt()
    normalised_keys = (keys - estimate.mean[:d_in]) / (std[:d_in] + EPS)
    centred = gradients - estimate.mean[d_in:]
    if phase == "edit" and config.algorithm == "stableedit" and estimate.n > d_out + 1:
        normalised = centred @ _inverse_root(estimate.co_moment / (estimate.n - d_out - 1 + EPS))
    else:
        normalised = centred / (std[d_in:] + EPS)
    target = -config.lr * normalised_keys.square().sum(1, keepdim=True) * normalised  # (N, d_out)
    return ridge_solution(keys, target, config.alpha)


def _inverse_root(covariance: torch.Tensor) -> torch.Tensor:
    """Sigma^(-1/2), symmetric, eigenvalues clamped from below."""
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    return vectors * eigenvalues.clamp_min(EIGENVALUE_FLOOR).rsqrt() @ vectors.T


def ridge_solution(keys: torch.Tensor, target: torch.Tensor, alpha: float) -> torch.Tensor:
    """(H^T H + alpha I)^(-1) H^T V, by a d_in × d_in system in float32. N × d_in and N × d_out; returns d_in × d_out."""
    system = keys.T @ keys
    system.diagonal().add_(alpha)
    return torch.linalg.solve(system, keys.T @ target)


def _file(folder: Path, number: int, name: str) -> Path:
    return folder / f"{number}-{name}.pt"
