"""`errata`: run the service on this machine, post facts, ask."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from service.cli import demo as demonstration
from service.cli import keys, show, taking_back
from service.cli.beginning import fail as _fail
from service.cli.beginning import ledger as _ledger
from service.cli.beginning import needing as _needing
from service.cli.beginning import settings_for as _settings
from service.cli.client import ApiError, Client
from service.cli.facts import FactsError, read_facts
from service.errors import ErrataError
from service.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Keep a running language model's facts up to date.",
)
app.add_typer(keys.app, name="keys")
START_TIMEOUT_S = 900.0  # a large model may have to come over the network first
STOP_TIMEOUT_S = 150.0


def _client() -> Client:
    settings = _settings()
    return Client(settings.api_url, api_key=settings.api_key)


@app.command()
def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Go on in the background, return when it is ready.")] = False,
) -> None:
    """Run everything on this machine: Postgres, Valkey, migrations, api and worker."""
    settings = _settings("supervisor")
    with _needing("local"):
        from service.local.processes import PidFile
        from service.local.supervisor import Supervisor, log_path

    running = PidFile(settings.data_dir, "supervisor").running()
    if running is None and not detach:
        show.console.print(f"Starting; {settings.api_url} when ready. Ctrl-C stops everything.", highlight=False)
        try:
            asyncio.run(Supervisor(settings).run())
        except ErrataError as error:
            _fail(error.detail)
        return
    process: subprocess.Popen[bytes] | None = None
    log = log_path(settings.data_dir)
    if running is None:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            command = [sys.executable, "-m", "service.cli", "up"]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
    _wait_until_ready(settings, process, log)
    show.console.print(
        f"[green]ready[/] {settings.api_url}  (docs: {settings.api_url}/docs, log: {log})", highlight=False, soft_wrap=True
    )


def _wait_until_ready(settings: Settings, process: subprocess.Popen[bytes] | None, log: Path) -> None:
    client, deadline = Client(settings.api_url, api_key=settings.api_key), time.monotonic() + START_TIMEOUT_S

    def done() -> tuple[bool, str]:
        if process is not None and process.poll() is not None:
            _fail(f"it did not start; the end of {log}:\n" + log.read_text(errors="replace")[-1500:])
        if time.monotonic() > deadline:
            _fail(f"not ready after {START_TIMEOUT_S:.0f} s; see {log}")
        return client.ready()

    show.wait_until(done, lambda: time.sleep(0.3))


@app.command()
def stop() -> None:
    """Stop everything that `errata up` started for this data folder."""
    settings = _settings()
    with _needing("local"):
        from service.local.processes import PidFile
        from service.local.supervisor import PARTS, Supervisor

    found = PidFile(settings.data_dir, "supervisor").end(STOP_TIMEOUT_S)
    left_over = [part for part in PARTS if PidFile(settings.data_dir, part).end(60)]
    if not found:
        Supervisor(settings).stop_servers()
    show.console.print("stopped" if found or left_over else "nothing was running")


@app.command()
def status() -> None:
    """Queue, head revision, statistics, workers and processes."""
    settings = _settings()
    with _needing("local"):
        from service.local.processes import PidFile

    parts = {part: PidFile(settings.data_dir, part).running() for part in ("supervisor", "api", "worker")}
    processes = {part: process.pid if process else None for part, process in parts.items()}
    try:
        show.console.print(show.stats_tables(Client(settings.api_url, api_key=settings.api_key).stats(), processes))
    except ApiError as error:
        _fail(str(error))


@app.command()
def edit(
    prompt: Annotated[str | None, typer.Argument(help="The question, or the beginning of a sentence.")] = None,
    target: Annotated[str | None, typer.Argument(help="What the model is to answer.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="JSON lines with prompt and target each.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait until the edits are in the weights.")] = True,
) -> None:
    """Change one fact, or all facts of a file."""
    if (file is None) == (prompt is None or target is None):
        _fail("give a PROMPT and a TARGET, or --file FACTS.jsonl")
    client = _client()
    try:
        facts: list[dict[str, Any]] = read_facts(file) if file else [{"prompt": prompt, "target": target}]
        ids = client.submit(facts)
        if not wait:
            show.console.print(f"accepted: edits {ids[0]} to {ids[-1]}" if len(ids) > 1 else f"accepted: edit {ids[0]}")
            return
        edits = show.follow(client.finished(ids), len(ids), "writing facts into the weights")
    except (ApiError, FactsError) as error:
        _fail(str(error))
    if len(edits) == 1:
        show.console.print(show.answers_table(edits, "plain"))
    show.console.print(show.summary(edits), highlight=False)
    if any(each["state"] == "failed" for each in edits):
        raise typer.Exit(1)


@app.command()
def ask(
    prompt: str,
    chat: Annotated[bool, typer.Option(help="Ask through the model's chat template.")] = False,
    max_tokens: Annotated[int, typer.Option(min=1)] = 64,
    temperature: Annotated[float, typer.Option(min=0.0)] = 0.0,
    min_revision: Annotated[int, typer.Option(min=0, help="Wait for at least this revision.")] = 0,
) -> None:
    """Ask the model as it is now."""
    try:
        answer = _client().ask(prompt, chat=chat, max_tokens=max_tokens, temperature=temperature, min_revision=min_revision)
    except ApiError as error:
        _fail(str(error))
    show.console.print(answer["text"].strip() or "(says nothing)", markup=False, highlight=False)
    show.console.print(f"[dim]revision {answer['revision']}, {answer['usage']['completion_tokens']} tokens[/]", highlight=False)


Reason = Annotated[str | None, typer.Option(help="Why: goes into the ledger.")]


@app.command()
def revert(edit_id: Annotated[int, typer.Argument(min=1, help="The edit's number.")], reason: Reason = None) -> None:
    """Take one edit back: its own share leaves the weights, everything else stays."""
    _take_back("DELETE", f"/edits/{edit_id}", f"taking edit {edit_id} out", params={"reason": reason} if reason else {})


@app.command()
def rollback(
    revision: Annotated[int, typer.Argument(min=0, help="The revision to go back to.")], reason: Reason = None
) -> None:
    """Go back to the state of a revision exactly, as a new revision."""
    _take_back("POST", "/rollback", f"going back to revision {revision}", json={"to_revision": revision, "reason": reason})


@app.command()
def rebuild(
    without: Annotated[list[int] | None, typer.Option(min=1, help="An edit to leave out; may be given several times.")] = None,
    reason: Reason = None,
) -> None:
    """Teach everything that is applied once more, as if the given edits had never been."""
    _take_back("POST", "/rebuild", "rebuilding", json={"without": without or [], "reason": reason})


def _take_back(method: str, path: str, label: str, **arguments: Any) -> None:
    try:
        done = taking_back.carry_out(_client(), method, path, label, **arguments)
    except ApiError as error:
        _fail(str(error))
    if not done:
        raise typer.Exit(1)


@app.command()
def demo() -> None:
    """Teach a running service the demo facts and show what the model says before and after."""
    try:
        demonstration.run(_client())
    except (ApiError, FactsError) as error:
        _fail(str(error))


@app.command()
def api() -> None:
    """Run the api in the foreground."""
    settings = _settings("api")
    from service.api.app import run_api

    try:
        run_api(settings)
    except ErrataError as error:
        _fail(error.detail)


@app.command()
def worker(
    role: Annotated[str | None, typer.Option(help="writer or reader; default: ERRATA_WORKER_ROLE, or writer.")] = None,
) -> None:
    """Run a worker in the foreground."""
    if role is not None:
        os.environ["ERRATA_WORKER_ROLE"] = role
    settings = _settings("worker")
    _quieten_libraries()
    with _needing("worker"):
        from service.worker.main import run_worker

    try:
        with asyncio.Runner(loop_factory=_quick_loop()) as runner:
            runner.run(run_worker(settings))
    except ErrataError as error:
        _fail(f"{error.code}: {error.detail}")


def _quick_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, as uvicorn chooses for the api, where there is one; else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


@app.command()
def calibrate(
    model: Annotated[str | None, typer.Option(help="Instead of ERRATA_MODEL's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the profile; default: where a worker looks for it.")] = None,
) -> None:
    """Find out where a model that nobody has edited yet takes facts best, and write it down. Needs no running service."""
    settings = _settings()
    if model:
        settings = settings.model_copy(update={"model": model})
    _quieten_libraries()
    with _needing("worker"):
        from service.worker.calibration import calibrate_model

    began = time.monotonic()
    try:
        with show.stages() as progress:
            done = calibrate_model(settings, out, progress)
    except ErrataError as error:
        _fail(error.detail)
    best = done.calibration.best
    rows = [(asdict(each), each is best) for each in done.calibration.trials]
    show.console.print(show.trials_table(done.name, rows))
    use = f"set ERRATA_PROFILE_FILE={out} for workers to use it" if out else "workers use it from their next start"
    show.console.print(
        f"{time.monotonic() - began:.0f} s; the profile is in {done.path}; {use}. "
        "A ledger that was begun with other blocks cannot be gone on with.",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="The folder to write; it must not be there yet, or be empty.")],
    format: Annotated[
        Literal["hf", "safetensors", "lora"],
        typer.Option(help="For transformers, the changed tensors alone, or a PEFT adapter."),
    ],
    revision: Annotated[int | None, typer.Option(min=0, help="Of the ledger; default: the head.")] = None,
    dtype: Annotated[Literal["float32", "bfloat16", "float16"], typer.Option(help="hf: of the weights.")] = "float32",
    rank: Annotated[int, typer.Option(min=1, help="lora: of each weight's change.")] = 16,
    custom_code: Annotated[
        bool, typer.Option("--custom-code", help="hf: keep slots apart, in code that needs trust_remote_code.")
    ] = False,
    accept_differences: Annotated[
        bool, typer.Option("--accept-differences", help="Keep what does not answer as the model does.")
    ] = False,
) -> None:
    """Write the model at a revision down for others to load. The service may be running or not; its settings are needed."""
    settings = _settings()
    _quieten_libraries()
    with _needing("worker"):
        from service.worker.export.command import export_model
        from service.worker.export.request import Request

    request = Request(format, out, revision, dtype, rank, custom_code, accept_differences)
    began = time.monotonic()
    try:
        with _ledger(settings) as at_ledger, show.stages() as progress:
            done = export_model(at_ledger, request, progress)
    except ErrataError as error:
        _fail(f"{error.code}: {show.escape(error.detail)}")
    written = done.written
    facts = (*written.facts, written.verified, f"{time.monotonic() - began:.0f} s")
    show.exported(done.title, facts, written.warnings, done.out, done.loading)


def _quieten_libraries() -> None:
    """Before they are imported."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TQDM_DISABLE", "1")


@app.command()
def verify(
    weights: Annotated[bool, typer.Option(help="Rebuild the head from the objects and compare; loads the model.")] = True,
    deep: Annotated[
        bool, typer.Option("--deep", help="The same at every checkpoint, by itself and from the one before.")
    ] = False,
) -> None:
    """Check chain, invariants, objects and weights against the ledger; a line for each, exit code 1 when anything is wrong."""
    settings = _settings("verify")
    _quieten_libraries()
    from service.cli import verify as verification

    with _needing("worker" if weights else "local"):
        try:
            with _ledger(settings) as complete:
                everything = asyncio.run(verification.verify(complete, weights, deep))
        except ErrataError as error:
            _fail(f"{error.code}: {error.detail}")
    if not everything:
        raise typer.Exit(1)


@app.command()
def backup(file: Annotated[Path, typer.Argument(help="Where to write it; a file that is there is replaced.")]) -> None:
    """Write ledger and objects, as they are at one moment, into one file. The service may run meanwhile."""
    settings = _settings("backup")
    from service.cli import backup as backups

    try:
        with _ledger(settings) as complete:
            manifest = asyncio.run(backups.back_up(complete, file))
    except (ErrataError, OSError) as error:
        _fail(error.detail if isinstance(error, ErrataError) else str(error))
    show.console.print(backups.summary("backed up to", manifest, file), highlight=False, soft_wrap=True)


@app.command()
def restore(file: Annotated[Path, typer.Argument(help="What `errata backup` wrote.")]) -> None:
    """Bring a backup into a database that is still empty. Start the service afterwards."""
    settings = _settings("restore")
    from service.cli import backup as backups

    try:
        with _ledger(settings, new=True) as complete:
            backups.migrate_for(complete)
            manifest = asyncio.run(backups.restore(complete, file))
    except (ErrataError, OSError) as error:
        _fail(error.detail if isinstance(error, ErrataError) else str(error))
    show.console.print(backups.summary("restored", manifest, file), highlight=False, soft_wrap=True)


@app.command()
def migrate() -> None:
    """Bring the database's schema to the newest revision."""
    settings = _settings("migrate")
    if not settings.database_url:
        _fail("DATABASE_URL is not set")
    from service.infra.migrate import migrate as upgrade

    upgrade(settings.database_url)


if __name__ == "__main__":
    app()
