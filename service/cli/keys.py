"""`errata keys`: who may use the api, and for what."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.cli.beginning import fail, ledger, needing, settings_for
from service.cli.show import console
from service.domain.access import LONGEST_NAME, ApiKey, Scope, parts
from service.errors import ErrataError
from service.infra.keys import Keys
from service.infra.migrate import migrate
from service.infra.postgres import Database, create_engine
from service.infra.streams import RevokedChannel, connect
from service.ledger import access
from service.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys.")
T = TypeVar("T")
notes = Console(stderr=True, style="dim", highlight=False, soft_wrap=True)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose it is.")],
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="What it allows; may be given several times; admin is all. Default: generate. Any key may read."),
    ] = None,
) -> None:
    """Make a key. It is shown once: alone on standard output, with its id beside it on standard error."""
    name = name.strip()
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        fail(f"a name has 1 to {LONGEST_NAME} characters that can be printed")
    key, shown = _done(settings_for(), lambda database: access.add_key(database, name, scope or [Scope.GENERATE]))
    typer.echo(shown)
    notes.print(f"id {key.id}, {_scopes(key)}; it cannot be shown again")


@app.command("list")
def list_all() -> None:
    """All keys, without their secrets."""
    keys = _done(settings_for(), access.list_keys)
    table = Table("id", "name", "scopes", "made", "revoked")
    for key in keys:
        made, revoked = (f"{each:%Y-%m-%d %H:%M}" if each else "" for each in (key.created_at, key.revoked_at))
        table.add_row(key.id, escape(key.name), _scopes(key), made, revoked)
    if keys:
        console.print(table)
    else:
        notes.print("no keys yet; `errata keys add NAME` makes one")


@app.command()
def revoke(key: Annotated[str, typer.Argument(help="Its id, as `errata keys list` shows it, or the key itself.")]) -> None:
    """End a key. Answers under way are finished."""
    id, _ = parts(key) or (key, "")
    settings = settings_for()
    _done(settings, lambda database: access.revoke_key(database, id))
    heard = bool(settings.redis_url or not settings.database_url) and asyncio.run(_published(settings, id))
    console.print(f"{id} is revoked" + ("" if heard else "; an api that is running knows within seconds"), highlight=False)


async def _published(settings: Settings, id: str) -> bool:
    """Whether an api heard of it."""
    redis = connect(settings.redis_url or _embedded_redis(settings))
    try:
        return await RevokedChannel(redis, Keys(settings.redis_prefix)).publish(id)
    finally:
        await redis.aclose()


def _embedded_redis(settings: Settings) -> str:
    """Of the data folder, where the database is as well; it need not run."""
    with needing("local"):
        from service.local.valkey import EmbeddedValkey

    return EmbeddedValkey(settings.data_dir).url


def _scopes(key: ApiKey) -> str:
    return ", ".join(scope.value for scope in key.scopes)


def _done(settings: Settings, work: Callable[[Database], Awaitable[T]]) -> T:
    """In the configured database, or the embedded one of the data folder, which may be new."""

    async def run(url: str) -> T:
        database = Database(create_engine(url, "errata-cli"))
        try:
            return await work(database)
        finally:
            await database.close()

    try:
        with ledger(settings, new=True) as complete:
            if not settings.database_url:
                migrate(complete.database_url)
            return asyncio.run(run(complete.database_url))
    except ErrataError as error:
        fail(escape(error.detail))
