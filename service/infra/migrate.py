"""Bringing a database's schema to the newest revision."""

from __future__ import annotations

from importlib.resources import files

from alembic import command
from alembic.config import Config


def migrate(database_url: str) -> None:
    """`alembic upgrade head`, from an installed package as well as from a checkout."""
    command.upgrade(alembic_config(database_url), "head")


def alembic_config(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("migrations")))
    config.set_main_option("sqlalchemy.url", database_url.replace("%", "%%"))
    return config
