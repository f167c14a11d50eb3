"""Commands that need no running service: a model calibrated or taken away, a ledger looked over or carried elsewhere."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from service.cli import show
from service.cli.beginning import fail, ledger, needing, quieten_libraries, settings_for
from service.errors import ErrataError


def calibrate(
    model: Annotated[str | None, typer.Option(help="Instead of ERRATA_MODEL's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the profile; default: where a worker looks for it.")] = None,
) -> None:
    """Find out where a model that nobody has edited yet takes facts best, and write it down. Needs no running service."""
    settings = settings_for()
    if model:
        settings = settings.model_copy(update={"model": model})
    quieten_libraries()
    with needing("worker"):
        from service.worker.calibration import calibrate_model

    began = time.monotonic()
    try:
        with show.stages() as progress:
            done = calibrate_model(settings, out, progress)
    except ErrataError as error:
        fail(error.detail)
    show.console.print(show.trials_table(done.name, [asdict(each) for each in done.trials]))
    use = f"set ERRATA_PROFILE_FILE={out} for workers to use it" if out else "workers use it from their next start"
    show.console.print(
        f"{time.monotonic() - began:.0f} s; the profile is in {done.path}; {use}. "
        "A ledger that was begun with other blocks cannot be gone on with.",
        highlight=False,
        soft_wrap=True,
    )


def export(
    out: Annotated[Path, typer.Option(help="The folder to write; it must not be there yet, or be empty.")],
    format: Annotated[
        Literal["hf", "safetensors", "merged", "lora"],
        typer.Option(
            help="For transformers with the edits in scope; the edits alone; for transformers with all of them merged "
            "into the weights; a PEFT adapter of the merged ones."
        ),
    ],
    revision: Annotated[int | None, typer.Option(min=0, help="Of the ledger; default: the head.")] = None,
    dtype: Annotated[Literal["float32", "bfloat16", "float16"], typer.Option(help="hf, merged: of the weights.")] = "float32",
    rank: Annotated[int, typer.Option(min=1, help="lora: of each weight's change.")] = 16,
    accept_differences: Annotated[
        bool, typer.Option("--accept-differences", help="Keep what does not answer as the model does.")
    ] = False,
) -> None:
    """Write the model at a revision down for others to load. The service may be running or not; its settings are needed."""
    settings = settings_for()
    quieten_libraries()
    with needing("worker"):
        from service.worker.export.command import export_model
        from service.worker.export.request import Request

    request = Request(format, out, revision, dtype, rank, accept_differences)
    began = time.monotonic()
    try:
        with ledger(settings) as at_ledger, show.stages() as progress:
            done = export_model(at_ledger, request, progress)
    except ErrataError as error:
        fail(f"{error.code}: {show.escape(error.detail)}")
    written = done.written
    facts = (*written.facts, written.verified, f"{time.monotonic() - began:.0f} s")
    show.exported(done.title, facts, written.warnings, done.out, done.loading)


def verify(
    weights: Annotated[bool, typer.Option(help="Rebuild the head from the objects and compare; loads the model.")] = True,
    deep: Annotated[
        bool, typer.Option("--deep", help="The same at every checkpoint, by itself and from the one before.")
    ] = False,
) -> None:
    """Check chain, invariants, objects and weights against the ledger; a line for each, exit code 1 when anything is wrong."""
    settings = settings_for("verify")
    quieten_libraries()
    from service.cli import verify as verification

    with needing("worker" if weights else "local"):
        try:
            with ledger(settings) as complete:
                everything = asyncio.run(verification.verify(complete, weights, deep))
        except ErrataError as error:
            fail(f"{error.code}: {error.detail}")
    if not everything:
        raise typer.Exit(1)


def backup(file: Annotated[Path, typer.Argument(help="Where to write it; a file that is there is replaced.")]) -> None:
    """Write ledger and objects, as they are at one moment, into one file. The service may run meanwhile."""
    settings = settings_for("backup")
    from service.cli import backup as backups

    try:
        with ledger(settings) as complete:
            manifest = asyncio.run(backups.back_up(complete, file))
    except (ErrataError, OSError) as error:
        fail(error.detail if isinstance(error, ErrataError) else str(error))
    show.console.print(backups.summary("backed up to", manifest, file), highlight=False, soft_wrap=True)


def restore(file: Annotated[Path, typer.Argument(help="What `errata backup` wrote.")]) -> None:
    """Bring a backup into a database that is still empty. Start the service afterwards."""
    settings = settings_for("restore")
    from service.cli import backup as backups

    try:
        with ledger(settings, new=True) as complete:
            backups.migrate_for(complete)
            manifest = asyncio.run(backups.restore(complete, file))
    except (ErrataError, OSError) as error:
        fail(error.detail if isinstance(error, ErrataError) else str(error))
    show.console.print(backups.summary("restored", manifest, file), highlight=False, soft_wrap=True)
