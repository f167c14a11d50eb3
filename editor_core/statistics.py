"""Lifelong-normalisation statistics: running mean, second moment and value co-moment, one estimate per weight shape.

Rows are [h, v]: a key of width d_in beside a value gradient of width d_out. All edited layers of one shape feed one
estimate. Batches are merged by Chan, Golub & LeVeque's parallel form (1983), so the estimate after any number of
batches is that of all rows at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from editor_core.errors import NonFiniteUpdateError, StatisticsMismatchError

EPS = torch.finfo(torch.float32).eps
Shape = tuple[int, int]
Group = tuple[torch.Tensor, torch.Tensor]  # keys (N × d_in), value gradients (N × d_out)


def shape_name(shape: Shape) -> str:
    return f"{shape[0]}x{shape[1]}"


@dataclass(frozen=True, slots=True)
class ShapeSummary:
    """What an operator watches of one shape's estimate."""

    n: int
    mean_norm: float  # ||mean of [h, v]||
    drift: float  # ||mean of the newest rows - running mean|| at the last observation
    condition: float | None  # largest / smallest eigenvalue of Sigma_v, after clamping; None before it is whitened


class ShapeStatistics:
    """The estimate for one weight shape.

    n              rows seen, int
    mean           (d_in + d_out,) float64
    second_moment  (d_in + d_out,) float64, sum of squared deviations from the mean
    co_moment      (d_out, d_out) float32, sum of outer products of v's deviations; None under ULTRAEDIT
    """

    def __init__(self, shape: Shape, *, whitens: bool, device: torch.device | None = None) -> None:
        self.shape = shape
        self.whitens = whitens
        width = sum(shape)
        self.n = 0
        self.mean = torch.zeros(width, dtype=torch.float64, device=device)
        self.second_moment = torch.zeros(width, dtype=torch.float64, device=device)
        self.co_moment = torch.zeros(shape[1], shape[1], device=device) if whitens else None
        self.drift = 0.0
        self.condition: float | None = None

    def copy(self) -> ShapeStatistics:
        twin = ShapeStatistics.__new__(ShapeStatistics)
        twin.shape, twin.whitens, twin.n = self.shape, self.whitens, self.n
        twin.drift, twin.condition = self.drift, self.condition
        twin.mean, twin.second_moment = self.mean.clone(), self.second_moment.clone()
        twin.co_moment = None if self.co_moment is None else self.co_moment.clone()
        return twin

    def observe(self, groups: Sequence[Group]) -> None:
        """Merge rows, one group per (mini-batch, layer), in order.

        The grouping matters to ULTRAEDIT alone: its authors use the *unbiased* variance of each group in a formula
        made for the biased one, so every group counts N/(N-1) times its own scatter. A group of one row has none.
        Raises NonFiniteUpdateError and changes nothing when a row holds NaN or infinity.
        """
        groups = [(h, v) for h, v in groups if len(h)]
        if not groups:
            return
        rows = torch.cat([torch.cat([h.double(), v.double()], dim=1) for h, v in groups])  # (N, d_in + d_out)
        if not bool(torch.isfinite(rows).all()):
            raise NonFiniteUpdateError(f"a key or gradient of shape {shape_name(self.shape)} is NaN or infinite")
        if self.whitens:
            self._merge(rows)
        else:
            start = 0
            for keys, _ in groups:
                self._merge(rows[start : start + len(keys)])
                start += len(keys)
        self.drift = float((rows.mean(0) - self.mean).norm())

    def _merge(self, rows: torch.Tensor) -> None:
        added = len(rows)
        batch_mean = rows.mean(0)
        centred = rows - batch_mean
        scatter = centred.square().sum(0)
        if not self.whitens and added > 1:
            scatter *= added / (added - 1)
        delta = batch_mean - self.mean
        weight = self.n * added / (self.n + added)
        self.second_moment += scatter + weight * delta.square()
        if self.co_moment is not None:
            values = centred[:, self.shape[0] :].float()
            shift = delta[self.shape[0] :].float()
            self.co_moment.addmm_(values.T, values)
            self.co_moment.addr_(shift, shift, alpha=weight)
        self.mean += delta * (added / (self.n + added))
        self.n += added

    def key_moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(mean, std) of the keys, each (d_in,) float32; std as in EditorConfig's methods: sqrt(M2 / (n - 1 + eps))."""
        return self._moments(slice(0, self.shape[0]))

    def value_moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(mean, std) of the value gradients, each (d_out,) float32."""
        return self._moments(slice(self.shape[0], None))

    def _moments(self, part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        std = (self.second_moment[part] / (self.n - 1 + EPS)).clamp_min(0).sqrt()
        return self.mean[part].float(), std.float()

    @property
    def covariance_is_determined(self) -> bool:
        """Enough rows for the posterior mean of the covariance to exist: n > d_out + 1."""
        return self.co_moment is not None and self.n > self.shape[1] + 1

    def value_covariance(self) -> torch.Tensor:
        """Sigma_v (d_out × d_out, float32): mean of the Normal-Inverse-Wishart posterior, M / (n - d_out - 1 + eps)."""
        assert self.co_moment is not None
        return self.co_moment / (self.n - self.shape[1] - 1 + EPS)

    def summary(self) -> ShapeSummary:
        return ShapeSummary(self.n, float(self.mean.norm()), self.drift, self.condition)

    def state_dict(self) -> dict[str, torch.Tensor]:
        state = {
            "n": torch.tensor([self.n], dtype=torch.int64),
            "mean": self.mean.clone(),
            "second_moment": self.second_moment.clone(),
            "drift": torch.tensor([self.drift], dtype=torch.float64),
            "condition": torch.tensor([self.condition or 0.0], dtype=torch.float64),
        }
        if self.co_moment is not None:
            state["co_moment"] = self.co_moment.clone()
        return state

    def accept(self, state: Mapping[str, torch.Tensor]) -> ShapeStatistics:
        """A copy that holds `state`. Raises StatisticsMismatchError when it is not of this shape and algorithm."""
        twin = self.copy()
        expected = {name: tensor.shape for name, tensor in self.state_dict().items()}
        found = {name: tensor.shape for name, tensor in state.items()}
        if expected != found:
            name = shape_name(self.shape)
            raise StatisticsMismatchError(f"statistics for {name} do not fit: expected {expected}, found {found}")
        if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
            raise StatisticsMismatchError(f"statistics for {shape_name(self.shape)} hold NaN or infinity")
        twin.n = int(state["n"].item())
        twin.mean = state["mean"].to(self.mean, copy=True)
        twin.second_moment = state["second_moment"].to(self.mean, copy=True)
        twin.drift = float(state["drift"].item())
        twin.condition = float(state["condition"].item()) or None
        if self.co_moment is not None:
            twin.co_moment = state["co_moment"].to(self.co_moment, copy=True)
        return twin


class Statistics:
    """All estimates of one editor, by shape."""

    def __init__(self, shapes: Iterable[Shape], *, whitens: bool, device: torch.device | None = None) -> None:
        self._by_shape = {shape: ShapeStatistics(shape, whitens=whitens, device=device) for shape in dict.fromkeys(shapes)}

    def __getitem__(self, shape: Shape) -> ShapeStatistics:
        return self._by_shape[shape]

    def copy(self) -> Statistics:
        twin = Statistics.__new__(Statistics)
        twin._by_shape = {shape: each.copy() for shape, each in self._by_shape.items()}
        return twin

    def adopt(self, other: Statistics) -> None:
        """Take over another estimate of the same shapes, sharing its tensors (they are never written in place twice)."""
        self._by_shape = dict(other.copy()._by_shape)

    def summaries(self) -> dict[str, ShapeSummary]:
        return {shape_name(shape): each.summary() for shape, each in self._by_shape.items()}

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Flat tensors named "{d_in}x{d_out}/{field}", ready for safetensors."""
        return {
            f"{shape_name(shape)}/{field}": tensor
            for shape, each in self._by_shape.items()
            for field, tensor in each.state_dict().items()
        }

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Replace everything by `state`; all of it or nothing.

        Raises StatisticsMismatchError when shapes or fields differ from this editor's.
        """
        by_shape: dict[str, dict[str, torch.Tensor]] = {}
        for key, tensor in state.items():
            shape, _, field = key.partition("/")
            by_shape.setdefault(shape, {})[field] = tensor
        expected = {shape_name(shape) for shape in self._by_shape}
        if set(by_shape) != expected:
            raise StatisticsMismatchError(f"statistics are for shapes {sorted(by_shape)}, this editor's are {sorted(expected)}")
        self._by_shape = {shape: each.accept(by_shape[shape_name(shape)]) for shape, each in self._by_shape.items()}
