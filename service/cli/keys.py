"""`errata keys`: who may use the api, and for what."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
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
        typer.Option(help="What it allows; may be given several times; admin is all. Default: generate."),
    ] = None,
    expires_in_days: Annotated[float | None, typer.Option(help="After so many days it opens nothing. Default: never.")] = None,
) -> None:
    """Make a key. It is shown once: alone on standard output, with its id beside it on standard error."""
    name = name.strip()
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        fail(f"a name has 1 to {LONGEST_NAME} characters that can be printed")
    scopes, expires_at = scope or [Scope.GENERATE], _in_days(expires_in_days)
    _show(*_done(settings_for(), lambda database: access.add_key(database, name, scopes, expires_at)))


@app.command()
def rotate(
    key: Annotated[str, typer.Argument(help="Id of the key whose place another takes.")],
    expires_in_days: Annotated[float | None, typer.Option(help="Of the new key. Default: never.")] = None,
) -> None:
    """Make a key with the name, the scopes and the facts of another, which goes on until it is revoked."""
    _show(*_done(settings_for(), lambda database: access.rotate_key(database, key, _in_days(expires_in_days))))


def _in_days(days: float | None) -> datetime | None:
    if days is None:
        return None
    if not 0 < days < 36_500:
        fail("a key expires after more than 0 and less than 36,500 days")
    return datetime.now(UTC) + timedelta(days=days)


def _show(key: ApiKey, shown: str) -> None:
    typer.echo(shown)
    ends = f", until {key.expires_at:%Y-%m-%d %H:%M} UTC" if key.expires_at else ""
    notes.print(f"id {key.id}, {_scopes(key)}{ends}; it cannot be shown again")


@app.command("list")
def list_all() -> None:
    """All keys, without their secrets."""
    keys = _done(settings_for(), access.list_keys)
    table = Table("id", "name", "scopes", "made", "expires", "revoked")
    for key in keys:
        times = (f"{each:%Y-%m-%d}" if each else "" for each in (key.created_at, key.expires_at, key.revoked_at))
        whose = key.name if key.owner == key.id else f"{key.name} (after {key.owner})"
        table.add_row(key.id, escape(whose), _scopes(key), *times)
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
