"""The schema the migrations build is the one the code means, and every step goes both ways."""

from __future__ import annotations

import psycopg
import pytest
from alembic import command
from alembic.config import Config

from service.settings import Settings


@pytest.fixture
def config(settings: Settings) -> Config:
    config = Config("alembic.ini")
    config.set_main_option("sqlalchemy.url", settings.database_url.replace("%", "%%"))
    return config


def test_the_tables_are_what_the_migrations_build(config: Config) -> None:
    command.check(config)  # raises when a new migration would be needed


def test_the_schema_can_be_taken_down_and_built_again(config: Config, settings: Settings) -> None:
    command.downgrade(config, "base")
    with psycopg.connect(settings.database_url) as connection:
        left = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert left == [("alembic_version",)]
    command.upgrade(config, "head")
    command.check(config)
