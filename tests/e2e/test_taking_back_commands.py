"""Taking facts back as a user does it: over HTTP and by the command line, and looked over by `errata verify`."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from service_processes import Service, wait_for

from tests.conftest import Servers

FACTS = [{"prompt": f"Which harbour is number {number} on the list?", "target": f"Port {number}"} for number in range(4)]


def errata(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.cli", *arguments]
    return subprocess.run(command, env={**service.environment, "COLUMNS": "160"}, capture_output=True, text=True, check=False)


def done(service: Service, answer: Any) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text

    def finished() -> dict[str, Any]:
        found: dict[str, Any] = service.http.get(answer.headers["Location"]).json()
        return found if found["state"] in ("applied", "failed") else {}

    return dict(wait_for(finished, f"the operation to be done; log: {service.log}"))


def test_operations_wait_for_the_edits_before_them_and_hold_back_those_after(new_tiny_service: Callable[..., Service]) -> None:
    service = new_tiny_service()
    service.start_all()
    service.end("worker", signal.SIGKILL)
    before = service.post(FACTS[:2])
    key = {"Idempotency-Key": "one", "X-Errata-Actor": "ann"}
    accepted, again = [service.http.delete(f"/edits/{before[0]}", params={"reason": "wrong"}, headers=key) for _ in range(2)]
    assert (again.json()["id"], again.json()["replayed"]) == (accepted.json()["id"], True)
    after = service.post(FACTS[2:])
    service.start("worker")
    operation = done(service, accepted)
    assert (operation["revision"], operation["actor"], operation["reason"]) == (3, "ann", "wrong")
    edits = {edit["id"]: edit for edit in service.wait_until_applied(before + after)}
    assert [edits[each]["state"] for each in before] == ["reverted", "applied"]
    assert [edits[each]["revision"] for each in after] == [4, 4]
    refused = service.http.delete(f"/edits/{before[0]}")
    assert (refused.status_code, refused.json()["code"]) == (409, "edit_not_applied")
    assert service.http.post("/rollback", json={"to_revision": 99}).json()["code"] == "revision_not_found"

    rolled_back = errata(service, "rollback", "2", "--reason", "back to the beginning")
    assert rolled_back.returncode == 0, rolled_back.stdout
    assert "back to the beginning" in rolled_back.stdout
    revisions = service.http.get("/revisions").json()["revisions"]
    assert revisions[0]["fingerprint"] == next(each for each in revisions if each["number"] == 2)["fingerprint"]
    assert errata(service, "rebuild", "--without", str(before[1])).returncode == 0
    verified = errata(service, "verify", "--deep")
    assert verified.returncode == 0, verified.stdout
    assert "WRONG" not in verified.stdout
    assert "fingerprint of the head" in verified.stdout


def test_a_running_service_is_backed_up_and_restored_into_another_folder_but_not_over_a_ledger(
    new_tiny_service: Callable[..., Service], tmp_path: Path, servers: Servers
) -> None:
    service = new_tiny_service()
    service.start_all()
    service.wait_until_applied(service.post(FACTS))
    file = str(tmp_path / "backup.tar")
    saved = errata(service, "backup", file)
    assert saved.returncode == 0, saved.stdout
    assert service.stats()["head"]["row_hash"] in saved.stdout
    refused = errata(service, "restore", file)
    assert refused.returncode == 1
    assert "empty database" in refused.stdout
    service.end("worker", signal.SIGTERM)
    service.environment |= {"DATABASE_URL": servers.new_database(), "ERRATA_DATA_DIR": str(tmp_path / "other")}
    restored = errata(service, "restore", file)
    assert restored.returncode == 0, restored.stdout
    verified = errata(service, "verify")
    assert verified.returncode == 0, verified.stdout
