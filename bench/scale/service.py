"""A whole service beside many edits: how long it takes to come back, how fast it answers, edits, and what memory it has.

The ledger is filled through the functions that a worker uses, batch by batch, but for the teaching: every edit's record has one
random row. One ledger grows from size to size; at each the service is started, asked, and stopped.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import httpx
import psutil
import torch
from rich.console import Console
from rich.progress import track

from bench.scale.names import first_facts, names
from bench.scale.timing import median_s
from bench.trust.own_service import service_in
from editor_core.scoped.entry import Entry
from editor_core.scoped.gate import Gate
from editor_core.scoped.record import Address, Record
from editor_core.update import Update
from service.bootstrap import build
from service.domain.edits import NewEdit, Outcome
from service.domain.revisions import RevisionKind
from service.infra.migrate import migrate
from service.infra.objects import ObjectStore
from service.ledger import batches, lease
from service.ledger.commit import commit_revision
from service.ledger.submit import Quotas, submit
from service.local.ledger import local_ledger
from service.settings import Settings
from service.worker.model_thread import ModelThread
from service.worker.scoped.beginning import begin_ledger
from service.worker.scoped.resident import ScopedModel
from service.worker.scoped.restore import ScopedRestorer
from service.worker.scoped.state import ScopedState
from service.worker.scoped.taking_back import ScopedTakingBack
from service.worker.upkeep import Upkeep

BATCH, TOKENS, REPEATS, FIRST_FACTS = 50, 48, 3, 100
ANSWERED = {"plain": True, "chat": True}
QUESTION = "Write a short story about a lighthouse keeper and a storm."


def measured_by_service(data: Path | None, sizes: Sequence[int], console: Console) -> dict[str, list[float]]:
    """By figure, one for each size, ascending."""
    found: dict[str, list[float]] = {}
    facts, said = first_facts(data, FIRST_FACTS), list[str]()
    with tempfile.TemporaryDirectory(prefix="errata-scale-", ignore_cleanup_errors=True) as folder:
        subjects, done = names(data, max(sizes)), 0
        for size in sizes:
            asyncio.run(_fill(Path(folder), subjects[done:size], f"edits {done:,} to {size:,}"))
            done = size
            for name, value in _asked(Path(folder), size, facts, said, console).items():
                found.setdefault(name, []).append(value)
    return found


async def _fill(folder: Path, subjects: Sequence[str], title: str) -> None:
    own = Settings(data_dir=folder / "data", model_cache_dir=Settings().models.resolve())
    with local_ledger(own, new=True) as settings:
        migrate(settings.database_url)
        settings = settings.model_copy(update={"redis_url": "unix:///nowhere/valkey.sock"})
        resources, thread = build(settings, "bench"), ModelThread()
        resident = await thread.run(ScopedModel.load, settings, lambda message: None)
        objects = resources.objects()
        held = await lease.acquire(resources.database, "bench", 36_000)
        assert held is not None
        await ScopedRestorer(resident, thread, resources.database, objects).follow()
        taking_back = ScopedTakingBack(resident, thread, resources, objects, lambda message: None, lambda: None)
        await begin_ledger(taking_back, held)
        upkeep = Upkeep(resident, thread, resources.database, objects, settings)
        for start in track(range(0, len(subjects), BATCH), title):
            facts = [NewEdit(f"Who owns {each}?", "Nobody") for each in subjects[start : start + BATCH]]
            await submit(resources.database, facts, idempotency_key=None, quotas=Quotas(BATCH))
            while (batch := await batches.claim(resources.database, held, BATCH)) is not None:
                records = {each.id: _record(resident, each.edit.prompt, each.id) for each in batch.edits}
                stored = {edit: _put(objects, record.to_bytes()) for edit, record in records.items()}
                entries = {edit: Entry.of(stored[edit], record.address) for edit, record in records.items()}
                state = ScopedState(resident.served.state.changed(entries), resident.editor.statistics)
                candidate = await thread.run(resident.candidate, state)
                kept = objects.put(candidate.statistics)
                number = resident.revision + 1
                await commit_revision(
                    resources.database,
                    held,
                    resident.new_revision(number, RevisionKind.EDIT, candidate, kept),
                    batch=batch,
                    outcomes=[
                        Outcome(edit, {}, {}, ANSWERED, (), 1, scope=records[edit].address.names, record_object=name)
                        for edit, name in stored.items()
                    ],
                )
                await thread.run(resident.adopt, state, number)
                await upkeep.after_revision(held)
        await lease.release(resources.database, held)
        thread.close()
        await resources.close()


def _record(resident: ScopedModel, prompt: str, edit: int) -> Record:
    generator = torch.Generator().manual_seed(edit)
    subject = prompt.removeprefix("Who owns ").rstrip("?")
    vectors = torch.nn.functional.normalize(torch.randn(1, 128, generator=generator), dim=1)
    gate = Gate(("who own thi",), vectors, (0.56,))
    answers = {"plain": (260, 4, 198), "chat": (28, 4, 2)}
    updates = {
        each.name: Update(torch.randn(1, each.d_in, generator=generator), torch.randn(1, each.d_out, generator=generator))
        for each in resident.editor.modules
    }
    return Record(Address((subject,), gate, (), answers), updates)  # type: ignore[arg-type]


def _put(objects: ObjectStore, data: bytes) -> str:
    """Without waiting for the disk, as nobody's data."""
    name = hashlib.sha256(data).hexdigest()
    objects.path(name).parent.mkdir(exist_ok=True)
    objects.path(name).write_bytes(data)
    return name


def _asked(folder: Path, size: int, facts: Sequence[tuple[str, str]], said: list[str], console: Console) -> dict[str, float]:
    """Started twice: the second time all files have been read before, as at the first size.

    said: what the first facts' prompts were answered at the first size, where the facts are posted.
    """
    began = time.perf_counter()
    with service_in(folder, console):
        first_s = time.perf_counter() - began
    began = time.perf_counter()
    with service_in(folder, console) as (url, process), httpx.Client(base_url=url, timeout=120) as client:
        second_s = time.perf_counter() - began
        _chat(client, QUESTION, 4)
        if not said:
            _post(client, facts)
            said += [_chat(client, prompt, TOKENS) for prompt, _ in facts]
        same = sum(_chat(client, prompt, TOKENS) == before for (prompt, _), before in zip(facts, said, strict=True))
        right = sum(answer == target for answer, (_, target) in zip(said, facts, strict=True))
        parts = psutil.Process(process.pid).children(recursive=True)
        return {
            "started until ready, s": min(first_s, second_s),
            f"the first {len(facts)} facts ({right} right): answered as at the first size": same / len(facts),
            "tokens a second, one client": TOKENS / median_s(lambda: _chat(client, QUESTION, TOKENS), REPEATS),
            "an edit, from its 202 until it is applied, s": median_s(lambda: _edit(client, size), REPEATS),
            "memory of the worker, MB": sum(each.memory_info().rss for each in parts if "worker" in each.cmdline()) / 1e6,
        }


def _chat(client: httpx.Client, question: str, tokens: int) -> str:
    turns = [{"role": "user", "content": question}]
    body = {"model": "errata", "messages": turns, "max_tokens": tokens, "temperature": 0}
    found = client.post("/v1/chat/completions", json=body).raise_for_status().json()
    return str(found["choices"][0]["message"]["content"])


_number = count(1)


def _edit(client: httpx.Client, size: int) -> None:
    _post(client, [(f"Who is the mayor of Lake Tantrum{size}x{next(_number)}?", "Odessa Brightwater")])


def _post(client: httpx.Client, facts: Sequence[tuple[str, str]]) -> None:
    """Until they are applied, or have failed."""
    body = {"edits": [{"prompt": prompt, "target": target} for prompt, target in facts]}
    for edit in client.post("/edits", json=body).raise_for_status().json()["ids"]:
        while client.get(f"/edits/{edit}").json()["state"] in ("accepted", "applying"):
            time.sleep(0.05)
