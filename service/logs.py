"""Structured logs: key=value for people, JSON for machines, both to standard error."""

from __future__ import annotations

import io
import logging
import sys
from typing import TextIO, cast

import structlog


def configure_logs(process: str, level: str, log_format: str) -> None:
    """Set up structlog for this process; `process` ("api", "worker", …) is on every line."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0)
    )
    structlog.configure(
        processors=[
            lambda logger, name, event: {"process": process, **event},  # not a context variable: threads do not inherit those
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if log_format == "json" else _keep,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, _StandardError())),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format=f"%(asctime)s [%(levelname)s] %(name)s {process}: %(message)s"
    )


class _StandardError(io.TextIOBase):
    """Whatever standard error is when something is written: it may be another by then."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def _keep(logger: object, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return event
