"""The ridge solve alone, at the size of one layer of a 7B model: N × N beside d_in × d_in."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.measure import comparison, interleaved, largest_difference, summary, write_result

FORMS = ("ours", "direct", "cholesky")
LIMIT = 1e-3  # relative: more means that the forms no longer compute the same


@dataclass(frozen=True, slots=True)
class Size:
    """Widths of the edited layer, and how many answer tokens a batch brings."""

    d_in: int
    d_out: int
    rows: int


FULL = Size(14_336, 4_096, 500)  # down_proj of Llama-3-8B, 100 edits
QUICK = Size(2_048, 512, 200)


def bench_solve(console: Console, results: Path | None, repeats: int, size: Size = FULL) -> dict[str, Any]:
    """Run, print and keep the comparison; SystemExit when the forms' deltas differ."""
    with tempfile.TemporaryDirectory() as folder:
        deltas = {form: Path(folder) / f"{form}.safetensors" for form in FORMS}
        sizes = ["--d-in", str(size.d_in), "--d-out", str(size.d_out), "--rows", str(size.rows)]
        commands = {form: ["bench.solve_worker", form, *sizes, "--delta", str(file)] for form, file in deltas.items()}
        runs = interleaved(console, "solve", commands, repeats)
        differences = {form: largest_difference(deltas["ours"], deltas[form]) for form in FORMS[1:]}
    summaries = {form: summary(each) for form, each in runs.items()}
    factors, dense = summaries["ours"]["stages_s"]["factors"], summaries["ours"]["median_s"]
    slowest = summaries["direct"]["median_s"]
    result = {
        "settings": {"d_in": size.d_in, "d_out": size.d_out, "rows": size.rows, "repeats": repeats},
        "ratio_factors": slowest / factors,
        "ratio_with_dense_product": slowest / dense,
        "relative_difference": differences,
        **summaries,
    }
    _print(console, result, size)
    write_result(results, "solve", result, console)
    if not max(differences.values()) < LIMIT:
        raise SystemExit(f"the forms differ by {max(differences.values()):.1e}, above {LIMIT:.0e}")
    return result


def _print(console: Console, result: dict[str, Any], size: Size) -> None:
    each = [result[form] for form in FORMS]
    factors = result["ours"]["stages_s"]["factors"]
    whole = result["ours"]["median_s"]
    seconds = [form["median_s"] for form in each]
    difference = result["relative_difference"]
    rows = [
        ("two factors, median seconds", f"{factors:.3f}", "", ""),
        ("dense delta, median seconds", *(f"{value:.3f}" for value in seconds)),
        ("slower than ours to factors", "1", *(f"{value / factors:.0f}×" for value in seconds[1:])),
        ("slower than ours to dense", "1", *(f"{value / whole:.0f}×" for value in seconds[1:])),
        ("dense delta, fastest run", *(f"{form['fastest_s']:.3f}" for form in each)),
        ("cores taken by others, most", *(f"{max(form['cores_of_others']):.2f}" for form in each)),
        ("peak memory, MiB", *(f"{form['peak_mib']:.0f}" for form in each)),
        ("  of it before the solve", *(f"{form['before_mib']:.0f}" for form in each)),
        ("relative difference to ours", "", *(f"{difference[form]:.1e}" for form in FORMS[1:])),
    ]
    title = f"The solve alone: d_in {size.d_in:,}, d_out {size.d_out:,}, {size.rows} rows"
    console.print(comparison(title, ("ours (N × N)", "direct (LU)", "direct (Cholesky)"), rows))
