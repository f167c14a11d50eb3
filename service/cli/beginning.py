"""What commands begin with: settings, parts that may not be installed, the ledger; and how they say what is wrong."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NoReturn

import typer
from pydantic import ValidationError

from service.cli.show import console
from service.cores import use_cores_sparingly
from service.logs import configure_logs, redacted
from service.settings import Settings

OWNER_ONLY = 0o077  # umask


def fail(message: str) -> NoReturn:
    """Raises typer.Exit with code 1."""
    console.print(f"[red]error:[/] {redacted(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(1)


def settings_for(process: str = "cli") -> Settings:
    try:
        settings = Settings()
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        fail(f"a setting cannot be used: {wrong}")
    configure_logs(process, settings.log_level, settings.log_format)
    if process != "cli":  # what these write is the ledger's: logs, objects, backups
        os.umask(OWNER_ONLY)
    return settings


@contextlib.contextmanager
def needing(extra: str) -> Iterator[None]:
    """Imports of a part that is not always installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        fail(f"{error.name} is not installed here; this command needs: pip install 'errata-llm\\[{extra}]'")


@contextlib.contextmanager
def ledger(settings: Settings, new: bool = False) -> Iterator[Settings]:
    """The settings with the database that has the ledger, if need be the data folder's own. Raises ErrataError.

    new: it may be made here.
    """
    if settings.database_url:
        yield settings
        return
    with needing("local"):
        from service.local.ledger import local_ledger

    with local_ledger(settings, new) as found:
        yield found


def quieten_libraries() -> None:
    """Before they are imported."""
    use_cores_sparingly(os.environ)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TQDM_DISABLE", "1")
