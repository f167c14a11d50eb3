"""`errata`: run the service on this machine, post facts, ask."""

from __future__ import annotations

import typer

from service.cli import asking, at_rest, keys, running

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Keep a running language model's facts up to date.",
)
app.add_typer(keys.app, name="keys")
for command in (
    *(running.up, running.stop, running.status),
    *(asking.edit, asking.ask, asking.revert, asking.rollback, asking.rebuild, asking.demo),
    *(running.api, running.worker),
    *(at_rest.calibrate, at_rest.export, at_rest.verify, at_rest.backup, at_rest.restore),
    running.migrate,
):
    app.command()(command)
