"""Alembic's entry: the schema is service.infra.tables, the database is DATABASE_URL."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine, pool, text

from service.infra.postgres import driver_url
from service.infra.tables import metadata
from service.settings import Settings


def run() -> None:
    url = context.config.get_main_option("sqlalchemy.url") or Settings().database_url
    if not url:
        raise SystemExit("DATABASE_URL is not set")
    engine = create_engine(driver_url(url), poolclass=pool.NullPool, connect_args={"application_name": "errata-migrate"})
    with engine.connect() as connection:
        connection.execute(text("SET lock_timeout = '10s'"))
        connection.commit()
        context.configure(connection=connection, target_metadata=metadata, compare_type=True, compare_server_default=True)
        with context.begin_transaction():
            context.run_migrations()


run()
