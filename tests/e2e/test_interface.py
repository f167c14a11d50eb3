"""The interface is what its description says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from service_processes import Service

from tests.conftest import Servers
from tests.e2e import parts
from tests.e2e.conftest import tiny_service

EXAMPLES = 12  # of each operation in each phase
SMALL = {
    "ERRATA_REQUIRE_KEYS": "true",
    "ERRATA_MAX_EDITS_PER_REQUEST": "20",
    "ERRATA_MAX_NEW_TOKENS": "16",
    "ERRATA_MAX_PROMPT_CHARS": "500",
}


@pytest.fixture
def service(servers: Servers, tiny_folder: Path, tmp_path: Path) -> Iterator[Service]:
    service = tiny_service(servers, tiny_folder, tmp_path, **SMALL)
    service.start_all()
    yield service
    service.stop()


def test_schemathesis_finds_nothing_in_the_whole_description(service: Service, tmp_path: Path) -> None:
    checks = Path("schemathesis.toml").resolve()
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(checks), "run", "--no-color"]
    bounds = ["--seed=1", f"--max-examples={EXAMPLES}", "--request-timeout=120"]
    key = ["--header", f"Authorization: Bearer {_key(service)}"]
    address = f"{service.http.base_url}/openapi.json"
    found = subprocess.run([*command, *bounds, *key, address], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout[-20_000:] + found.stderr


def _key(service: Service) -> str:
    said = parts.errata(service.environment, "keys", "add", "test", "--scope", "admin")
    return next(word for word in said.stdout.split() if word.startswith("errata_"))
