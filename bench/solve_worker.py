"""One run of one form of the ridge solve, in a process of its own, on the same random rows whatever the form."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from bench.direct import ridge_solution
from bench.measure import Stopwatch, first_repetition, peak_mib
from editor_core.solve import solve_keys, target_rows
from editor_core.update import Update

ALPHA, LR = 10.0, 1e-6  # the authors' for Llama-3-8B


def ours(keys: torch.Tensor, normalised: tuple[torch.Tensor, torch.Tensor], stage: Stopwatch) -> torch.Tensor:
    """N × N: two factors, and the dense product for those who want it."""
    with stage("factors"):
        update = Update(solve_keys(keys, ALPHA), target_rows(*normalised, LR))
    with stage("dense product"):
        return update.dense()


def direct(keys: torch.Tensor, normalised: tuple[torch.Tensor, torch.Tensor], stage: Stopwatch) -> torch.Tensor:
    """d_in × d_in by LU, as `torch.linalg.solve` does."""
    with stage("solve"):
        normalised_keys, values = normalised
        return ridge_solution(keys, -LR * normalised_keys.square().sum(1, keepdim=True) * values, ALPHA)


def direct_cholesky(keys: torch.Tensor, normalised: tuple[torch.Tensor, torch.Tensor], stage: Stopwatch) -> torch.Tensor:
    """d_in × d_in by Cholesky: the direct form for someone who uses that the system is symmetric."""
    with stage("solve"):
        normalised_keys, values = normalised
        target = -LR * normalised_keys.square().sum(1, keepdim=True) * values
        system = keys.T @ keys
        system.diagonal().add_(ALPHA)
        return torch.cholesky_solve(keys.T @ target, torch.linalg.cholesky(system))


FORMS = {"ours": ours, "direct": direct, "cholesky": direct_cholesky}


def run(form: str, d_in: int, d_out: int, rows: int, delta_to: Path | None) -> dict[str, object]:
    """Seconds by stage and peak memory; the small call before starts the threads and the libraries."""
    generator = torch.Generator().manual_seed(0)

    def random(n: int, width: int) -> torch.Tensor:
        return torch.randn(n, width, generator=generator)

    FORMS[form](random(32, 256), (random(32, 256), random(32, 64)), Stopwatch())
    keys, normalised = random(rows, d_in), (random(rows, d_in), random(rows, d_out))
    before = peak_mib()
    stopwatch = Stopwatch()
    delta = FORMS[form](keys, normalised, stopwatch)
    peak = peak_mib()
    if delta_to is not None:
        save_file({"delta": delta.contiguous()}, delta_to)
    return {
        "seconds": stopwatch.total,
        "stages": stopwatch.seconds,
        "cores_of_others": stopwatch.cores_of_others,
        "before_mib": before,
        "peak_mib": peak,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("form", choices=FORMS)
    for size in ("--d-in", "--d-out", "--rows"):
        parser.add_argument(size, type=int, required=True)
    parser.add_argument("--delta", type=Path, required=True)
    asked = parser.parse_args()
    outcome = run(asked.form, asked.d_in, asked.d_out, asked.rows, asked.delta if first_repetition() else None)
    print(json.dumps(outcome))
