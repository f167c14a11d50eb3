"""Structured logs: key=value for people, JSON for machines, both to standard error. No secret is in them.

Tracebacks show no variables, and whatever looks like a key or a password is left out of every line.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import sys
from types import TracebackType
from typing import TextIO, cast

import structlog

_SECRETS = (
    re.compile(r"(\berrata_[0-9a-f]+_)[0-9a-f]+"),  # a key of ours: domain.access
    re.compile(r"(\bBearer\s+)[^\s\"',)\]}]+", re.IGNORECASE),
    re.compile(r"(://[^/\s:@]*:)[^@/\s]+(?=@)"),
)


def configure_logs(process: str, level: str, log_format: str) -> None:
    """Set up structlog for this process; `process` ("api", "worker", …) is on every line."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,  # key_id, of a request
            lambda logger, name, event: {"process": process, **event},  # not a context variable: threads do not inherit those
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if log_format == "json" else _keep,
            lambda logger, name, event: redacted(str(renderer(logger, name, event))),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, _StandardError())),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Redacting(f"%(asctime)s [%(levelname)s] %(name)s {process}: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    sys.excepthook = _end


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What ends a process is told as everything else."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        structlog.get_logger().error("ended by an error", exc_info=(kind, error, trace))


def redacted(line: str) -> str:
    """Without keys of ours, bearer tokens and passwords of URLs."""
    for each in _SECRETS:
        line = each.sub(r"\1[redacted]", line)
    return line


class _Redacting(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


class _StandardError(io.TextIOBase):
    """Whatever standard error is when something is written: it may be another by then."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):  # a full disk: what cannot be told must end nothing
            return sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()


def _keep(logger: object, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return event
