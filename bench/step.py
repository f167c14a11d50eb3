"""One editing step of 100 edits over 18 layers of SmolLM2-135M: `editor_core` beside the direct form."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.measure import ROOT, comparison, interleaved, largest_difference, summary, write_result

OWN_EDITS = ROOT / "service" / "facts" / "warmup.jsonl"
DATA_VARIABLE = "ERRATA_BENCH_DATA"
LIMIT = 1e-3  # relative, per module: more means that the two forms no longer compute the same


def chosen_data(data: Path | None, console: Console) -> Path:
    """The file of edits: the one asked for, else the environment's, else the project's own."""
    if data is None and os.environ.get(DATA_VARIABLE):
        data = Path(os.environ[DATA_VARIABLE])
    if data is None:
        console.print(
            f"No --data and no {DATA_VARIABLE}: these are the project's own warm-up edits, {OWN_EDITS.relative_to(ROOT)}, "
            "not zsRE.",
            soft_wrap=True,
        )
        data = OWN_EDITS
    if not data.is_file():
        raise SystemExit(f"there is no file {data}")
    return data.resolve()


def bench_step(
    console: Console, data: Path | None, cache_dir: Path, results: Path | None, repeats: int, edits: int
) -> dict[str, Any]:
    """Run, print and keep the comparison; SystemExit when the two forms' deltas differ."""
    path = chosen_data(data, console)
    with tempfile.TemporaryDirectory() as folder:
        deltas = {form: Path(folder) / f"{form}.safetensors" for form in ("ours", "direct")}
        shared = ["--data", str(path), "--cache-dir", str(cache_dir.resolve()), "--edits", str(edits)]
        commands = {form: ["bench.step_worker", form, *shared, "--deltas", str(file)] for form, file in deltas.items()}
        runs = interleaved(console, "step", commands, repeats)
        difference = largest_difference(deltas["ours"], deltas["direct"])
    ours, direct = summary(runs["ours"]), summary(runs["direct"])
    result = {
        "settings": {
            "data": path.name,
            "edits": edits,
            "answer_tokens": runs["ours"][0]["answer_tokens"],
            "repeats": repeats,
        },
        "ratio": direct["median_s"] / ours["median_s"],
        "ratio_of_fastest": direct["fastest_s"] / ours["fastest_s"],
        "largest_relative_difference": difference,
        "ours": ours,
        "direct": direct,
    }
    _print(console, result)
    write_result(results, "step", result, console)
    if not difference < LIMIT:
        raise SystemExit(f"the two forms differ by {difference:.1e}, above {LIMIT:.0e}")
    return result


def _print(console: Console, result: dict[str, Any]) -> None:
    ours, direct, settings = result["ours"], result["direct"], result["settings"]
    rows = [_compared("step, median seconds", ours["median_s"], direct["median_s"], 2)]
    for stage, seconds in ours["stages_s"].items():
        rows.append(_compared(f"  {stage}", seconds, direct["stages_s"].get(stage), 2))
    rows.append(_compared("step, fastest run", ours["fastest_s"], direct["fastest_s"], 2))
    rows.append(("cores taken by others, most", *(f"{max(each['cores_of_others']):.2f}" for each in (ours, direct)), ""))
    rows.append(_compared("peak memory, MiB", ours["peak_mib"], direct["peak_mib"], 0))
    rows.append(("largest relative difference of a delta", f"{result['largest_relative_difference']:.1e}", "", ""))
    title = f"One step: {settings['edits']} edits ({settings['answer_tokens']} answer tokens) of {settings['data']}"
    console.print(comparison(title, ("ours", "direct", "direct / ours"), rows))


def _compared(what: str, ours: float, direct: float | None, digits: int) -> tuple[str, str, str, str]:
    if direct is None:
        return what, f"{ours:.{digits}f}", "", ""
    return what, f"{ours:.{digits}f}", f"{direct:.{digits}f}", f"{direct / ours:.2f}"
