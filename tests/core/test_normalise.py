"""Whitening against the dense, clamped inverse square root."""

import torch

from editor_core.normalise import EIGENVALUE_FLOOR, Whitener
from editor_core.statistics import ShapeStatistics


def estimate(scales: list[float]) -> tuple[ShapeStatistics, torch.Tensor]:
    """Statistics of 400 gradients with these standard deviations, rotated, and some rows to whiten."""
    generator = torch.Generator().manual_seed(3)
    width = len(scales)
    rotation, _ = torch.linalg.qr(torch.randn(width, width, generator=generator))
    values = torch.randn(400, width, generator=generator) * torch.tensor(scales) @ rotation
    statistics = ShapeStatistics((2, width), whitens=True)
    statistics.observe([(torch.ones(400, 2), values)])
    return statistics, values[:20]


def dense(statistics: ShapeStatistics, rows: torch.Tensor) -> torch.Tensor:
    eigenvalues, vectors = torch.linalg.eigh(statistics.value_covariance().double())
    root = vectors @ torch.diag(eigenvalues.clamp_min(EIGENVALUE_FLOOR).rsqrt()) @ vectors.T
    mean, _ = statistics.value_moments()
    return ((rows - mean).double() @ root).float()


def test_whitening_is_the_inverse_square_root_when_nothing_is_clamped() -> None:
    statistics, rows = estimate([1.0, 0.3, 0.05, 0.01])
    torch.testing.assert_close(Whitener.of(statistics)(rows), dense(statistics, rows), rtol=1e-4, atol=1e-5)


def test_whitening_is_exact_with_part_of_the_spectrum_under_the_clamp() -> None:
    statistics, rows = estimate([1.0, 0.3, 1e-4, 1e-5, 1e-6])
    whitener = Whitener.of(statistics)
    assert whitener.basis.shape == (5, 2)
    torch.testing.assert_close(whitener(rows), dense(statistics, rows), rtol=1e-4, atol=1e-5)


def test_whitened_rows_have_unit_covariance() -> None:
    statistics, _ = estimate([1.0, 0.3, 0.05])
    generator = torch.Generator().manual_seed(9)
    root = torch.linalg.cholesky(statistics.value_covariance())
    rows = torch.randn(20_000, 3, generator=generator) @ root.T + statistics.value_moments()[0]
    torch.testing.assert_close(torch.cov(Whitener.of(statistics)(rows).T), torch.eye(3), rtol=0.1, atol=0.05)
