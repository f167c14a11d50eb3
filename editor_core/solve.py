"""The ridge update in closed form, by the identity that makes it N × N.

Delta = (H^T H + alpha I)^(-1) H^T V   (d_in × d_out)
      = H^T (H H^T + alpha I)^(-1) V   (Woodbury; N ~ 500 instead of d_in ~ 14,336)
      = L^T V   with   L = (H H^T + alpha I)^(-1) H   (N × d_in).

Keeping V whole and solving for L makes row i of the two factors belong to answer token i alone: the share of one edit
is L_i^T V_i over its own rows, so it can be taken back without touching the rest of its batch.
"""

from __future__ import annotations

import torch

from editor_core.breathing import breathe


def solve_keys(keys: torch.Tensor, ridge: float) -> torch.Tensor:
    """L = (H H^T + alpha I)^(-1) H.  keys: N × d_in float32; returns N × d_in float32.

    The N × N system is built and factored in float64: keys of one prompt in several wordings are nearly parallel, and its
    condition number is about ||H||^2 / alpha. In float64 its inverse times H is as good as two triangular solves, and faster.
    """
    breathe()
    exact = keys.double()
    gram = exact @ exact.T
    gram.diagonal().add_(ridge)
    breathe()
    inverse: torch.Tensor = torch.cholesky_inverse(torch.linalg.cholesky(gram))
    breathe()
    return (inverse @ exact).float()


def target_rows(normalised_keys: torch.Tensor, normalised_values: torch.Tensor, lr: float) -> torch.Tensor:
    """V = -lr * ||h^||^2 * v^, row by row.  N × d_in and N × d_out float32; returns N × d_out float32."""
    return -lr * normalised_keys.square().sum(1, keepdim=True) * normalised_values
