"""`errata keys`: who may use the api, and for what."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from service.domain.access import ApiKey, Scope
from service.errors import ErrataError
from service.infra.migrate import migrate
from service.infra.postgres import Database, create_engine
from service.ledger import access
from service.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys.")
T = TypeVar("T")
console = Console()


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose it is.", min=1)],
    scope: Annotated[list[Scope] | None, typer.Option(help="What it allows; several may be given. Default: generate.")] = None,
) -> None:
    """Make a key. It is shown once."""
    key, shown = _done(lambda database: access.add_key(database, name[:100], scope or [Scope.GENERATE]))
    typer.echo(shown)
    console.print(f"id {key.id}, {_scopes(key)}; it cannot be shown again", style="dim", highlight=False)


@app.command("list")
def list_all() -> None:
    """All keys, without their secrets."""
    table = Table("id", "name", "scopes", "made", "revoked")
    for key in _done(access.list_keys):
        made, revoked = (f"{each:%Y-%m-%d %H:%M}" if each else "" for each in (key.created_at, key.revoked_at))
        table.add_row(key.id, key.name, _scopes(key), made, revoked)
    console.print(table)


@app.command()
def revoke(id: Annotated[str, typer.Argument(help="As `errata keys list` shows it.")]) -> None:
    """End a key, within seconds."""
    _done(lambda database: access.revoke_key(database, id))
    console.print(f"{id} is revoked")


def _scopes(key: ApiKey) -> str:
    return ", ".join(scope.value for scope in key.scopes)


def _done(work: Callable[[Database], Awaitable[T]]) -> T:
    async def run() -> T:
        database = Database(create_engine(_url(), "errata-cli"))
        try:
            return await work(database)
        finally:
            await database.close()

    try:
        return asyncio.run(run())
    except ErrataError as error:
        console.print(f"[red]error:[/] {error.detail}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


def _url() -> str:
    """The configured database, or the embedded one of the data folder."""
    settings = Settings()
    if settings.database_url:
        return settings.database_url
    from service.local.postgres import EmbeddedPostgres

    url = EmbeddedPostgres(settings.data_dir).start()
    migrate(url)
    return url
