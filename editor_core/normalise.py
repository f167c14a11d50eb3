"""Turning raw keys and value gradients into comparable rows: per dimension, or decorrelated by full whitening."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from editor_core.breathing import breathe
from editor_core.statistics import EPS, ShapeStatistics

EIGENVALUE_FLOOR = 1e-6  # the authors' clamp; eigenvalues under it all scale by floor^(-1/2) = 1e3


def standardise(rows: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """(rows - mean) / (std + eps), per dimension. rows: N × d float32."""
    return (rows - mean) / (std + EPS)


@dataclass(frozen=True, slots=True)
class Whitener:
    """Sigma_v^(-1/2), symmetric (ZCA), kept as the eigenpairs above the clamp alone.

    Every direction outside them scales by the same floor^(-1/2), so with f = floor^(-1/2)
    x Sigma^(-1/2) = f x + (x Q) (L^(-1/2) - f) Q^T. All of it in float64: f is 1e3, so what float32 eigenvectors lack
    in orthogonality comes back up to 1e3 times louder (4e-5 of the whole, measured on the golden runs; 2e-6 this way).

    basis (d_out × r) and scale (r,) float64; condition is that of the clamped covariance.
    """

    mean: torch.Tensor
    basis: torch.Tensor
    scale: torch.Tensor
    condition: float

    @classmethod
    def of(cls, statistics: ShapeStatistics) -> Whitener:
        """One eigendecomposition, 9 d_out^3 floating-point operations or so: the largest cost of a step at 7B."""
        breathe()
        eigenvalues, vectors = torch.linalg.eigh(statistics.value_covariance().double())  # ascending
        above = eigenvalues > EIGENVALUE_FLOOR
        clamped = eigenvalues.clamp_min(EIGENVALUE_FLOOR)
        mean, _ = statistics.value_moments()
        condition = float(clamped[-1] / clamped[0])
        return cls(mean, vectors[:, above], clamped[above].rsqrt(), condition)

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """rows: N × d_out float32; returns the same shape and dtype."""
        outside = EIGENVALUE_FLOOR**-0.5
        breathe()
        centred = (rows - self.mean).double()
        inside = (centred @ self.basis) * (self.scale - outside)  # (N, r)
        breathe()
        whitened: torch.Tensor = outside * centred + inside @ self.basis.T
        return whitened.float()
