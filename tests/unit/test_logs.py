"""No secret gets into a log, whichever way an error takes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from service.domain.access import Scope, new_key
from service.logs import redacted

CANARY = "c4n4ry" * 8
LOGGING = """
import logging, structlog
from service.logs import configure_logs
configure_logs("api", "info", {format!r})
def failing(headers, prompt):
    raise RuntimeError("postgresql://errata:{canary}@db/errata does not answer")
try:
    failing({{"Authorization": "Bearer {canary}"}}, "{canary}")
except RuntimeError as error:
    structlog.get_logger().error("unforeseen error", exc_info=error, header="bearer {canary}")
    logging.getLogger("uvicorn").exception("as the libraries say it")
failing({{"Authorization": "Bearer {canary}"}}, "{canary}")
"""


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_an_error_with_secrets_all_around_it_is_logged_without_them(log_format: str) -> None:
    program = LOGGING.format(format=log_format, canary=CANARY)
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stderr
    assert said.count("does not answer") == 3, "logged twice, and what the process ends with"
    assert "failing" in said, "the traceback is there"
    assert CANARY not in said


def test_a_key_of_ours_is_told_by_its_id_alone() -> None:
    key, shown = new_key("ann", [Scope.GENERATE])
    line = redacted(f"who came with {shown}, from http://127.0.0.1:8321/docs")
    assert line == f"who came with errata_{key.id}_[redacted], from http://127.0.0.1:8321/docs"
