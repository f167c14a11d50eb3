"""`python -m bench restart`: how long a worker takes to come back, by how many revisions the ledger has.

On a tiny random model in paper mode, and with random updates, since what is measured is everything but teaching: rows from
Postgres, objects from the disk with their SHA-256, the changes, the fingerprint. Loading the model is left out. The Postgres
is a real one, started for this.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.measure import RESULTS, write_result
from editor_core import Update
from editor_core.change import Change
from editor_core.loading import load_model
from service.bootstrap import Resources, build
from service.domain.revisions import RevisionKind
from service.infra.migrate import migrate
from service.ledger import lease, read
from service.ledger.commit import commit_revision
from service.ledger.lease import Lease
from service.local.postgres import EmbeddedPostgres
from service.local.processes import end_server
from service.logs import configure_logs
from service.settings import Settings
from service.worker.applying import persist
from service.worker.model_thread import ModelThread
from service.worker.resident import ResidentModel
from service.worker.restore import Restorer
from service.worker.upkeep import Upkeep
from service.worker.warmup import begin_ledger

SIZES = (10, 100, 1000)
ROWS = 5  # a module and revision
REPEATS = 3
CHECKPOINT_EVERY = 30  # so that at each of the sizes ten revisions have come since the newest one
TINY = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2}
MODULES = ("model.layers.2.mlp.down_proj", "model.layers.3.mlp.down_proj")


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench restart", description="time to restart by number of revisions")
    parser.add_argument("--cache-dir", type=Path, default=Path(".errata/models"), help="where the demo model is unpacked")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="at which numbers of revisions to restart")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON results")
    asked = parser.parse_args(arguments)
    configure_logs("bench", "warning", "text")
    with tempfile.TemporaryDirectory(prefix="errata-restart-") as folder:
        server = EmbeddedPostgres(Path(folder))
        url = server.start()
        try:
            migrate(url)
            settings = Settings(
                database_url=url,
                redis_url="unix:///nowhere/valkey.sock",
                data_dir=Path(folder),
                model=str(_tiny_model(asked.cache_dir, Path(folder) / "tiny")),
                edit_mode="paper",
                edit_modules=MODULES,
                edit_lr=0.01,
                checkpoint_every=CHECKPOINT_EVERY,
                prune_grace_s=0.0,
            )
            rows = asyncio.run(_measure(settings, sorted(asked.sizes)))
        finally:
            end_server(server.pid(), signal.SIGINT, 20)
    console = Console()
    _print(console, rows, settings)
    write_result(asked.results, "restart", {"rows": rows, "checkpoint_every": settings.checkpoint_every}, console)


def _tiny_model(cache_dir: Path, folder: Path) -> Path:
    from transformers import AutoConfig, AutoModelForCausalLM

    demo = Path(load_model("demo", cache_dir=cache_dir).folder)
    known = json.loads((demo / "config.json").read_text())
    torch.manual_seed(7)
    config = AutoConfig.for_model("llama", **TINY, vocab_size=known["vocab_size"], bos_token_id=1, eos_token_id=2)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(demo / name, folder / name)
    return folder


async def _measure(settings: Settings, sizes: Sequence[int]) -> list[dict[str, Any]]:
    resources, thread = build(settings, "bench"), ModelThread()
    resident = await thread.run(ResidentModel.load, settings, lambda message: None)
    held = await lease.acquire(resources.database, "bench", 36_000)
    assert held is not None
    await begin_ledger(resident, thread, resources.database, held)
    upkeep = Upkeep(resident, thread, resources.database, resources.objects(), settings)
    rows = []
    for size in sizes:
        for _ in track(range(size - resident.revision), f"writing revisions up to {size}"):
            await _one_more(resident, thread, resources, held)
            await upkeep.after_revision(held)
        rows.append(await _restarted(settings, thread, resources, size))
    thread.close()
    await resources.close()
    return rows


async def _one_more(resident: ResidentModel, thread: ModelThread, resources: Resources, held: Lease) -> None:
    updates = {
        each.name: Update(torch.randn(ROWS, each.d_in), torch.randn(ROWS, each.d_out)) for each in resident.editor.modules
    }
    owners = {name: torch.full((ROWS,), resident.revision + 1) for name in updates}
    norms = {name: update.norm() for name, update in updates.items()}
    candidate = await thread.run(resident.prepare, Change(updates, owners), None, norms)
    number = resident.revision + 1
    objects = await persist(resources.objects(), candidate)
    new = resident.new_revision(number, RevisionKind.EDIT, candidate, objects, 1)
    await commit_revision(resources.database, held, new)
    await thread.run(resident.adopt, candidate.draft, number, candidate.updates)


async def _restarted(settings: Settings, thread: ModelThread, resources: Resources, size: int) -> dict[str, Any]:
    objects, known = resources.objects(), await read.checkpoints(resources.database)
    head = await read.head(resources.database)
    assert head is not None
    again = await thread.run(ResidentModel.load, settings, lambda message: None)
    seconds = {"restart_s": float("inf"), "from_base_s": float("inf")}
    for _ in range(REPEATS):
        for name, passing_over in (("restart_s", ()), ("from_base_s", tuple(known))):
            if name == "from_base_s" and size > settings.rollback_window:
                seconds[name] = float("nan")  # the objects that it would need are gone
                continue
            began = time.perf_counter()
            await Restorer(again, thread, resources.database, objects, mends=False).draft_at(head, passing_over)
            seconds[name] = min(seconds[name], time.perf_counter() - began)
    files, size_bytes = objects.usage()
    return {"revisions": size, **{k: None if v != v else v for k, v in seconds.items()}, "files": files, "bytes": size_bytes}


def _print(console: Console, rows: Sequence[dict[str, Any]], settings: Settings) -> None:
    table = Table(title=f"Restart, checkpoints every {settings.checkpoint_every} revisions, window {settings.rollback_window}")
    for heading in ("revisions", "from the newest checkpoint", "from the base model", "objects", "on disk"):
        table.add_column(heading, justify="right")
    for row in rows:
        base = "(pruned)" if row["from_base_s"] is None else f"{row['from_base_s']:.3f} s"
        table.add_row(
            str(row["revisions"]), f"{row['restart_s']:.3f} s", base, str(row["files"]), f"{row['bytes'] / 1e6:.1f} MB"
        )
    console.print(table)
