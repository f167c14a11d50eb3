"""Taking facts back as a user does it: over HTTP and by the command line, and looked over by `errata verify`."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest
from service_processes import Service, wait_for

from tests.e2e import parts

FACTS = [{"prompt": f"Which harbour is number {number} on the list?", "target": f"Port {number}"} for number in range(4)]


def errata(service: Service, *arguments: str) -> parts.Done:
    return parts.errata(service.environment, *arguments)


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
    history = service.http.get(f"/edits/{before[0]}/history").json()["events"]
    assert [(each["revision"], each["event"]) for each in history] == [(2, "applied"), (3, "reverted")]
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


def answers(service: Service) -> list[str]:
    asked = [{"prompt": fact["prompt"], "max_tokens": 8} for fact in FACTS]
    return [str(service.http.post("/generate", json=each).json()["text"]) for each in asked]


def test_a_running_service_is_backed_up_and_brought_up_again_in_a_new_data_folder_but_not_over_a_ledger(
    new_tiny_service: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory
) -> None:
    service = new_tiny_service()
    service.start_all()
    ids = [edit["id"] for edit in service.wait_until_applied(service.post(FACTS))]
    done(service, service.http.delete(f"/edits/{ids[0]}"))
    folder = tmp_path_factory.mktemp("r")  # a short name: sockets are in it
    file, said, head = str(folder / "backup.tar"), answers(service), service.stats()["head"]
    saved = errata(service, "backup", file)
    assert saved.returncode == 0, saved.stdout
    assert head["row_hash"] in saved.stdout
    refused = errata(service, "restore", file)
    assert refused.returncode == 1
    assert "empty database" in refused.stdout
    service.end("worker", signal.SIGTERM)
    service.end("api", signal.SIGTERM)

    for name in ("DATABASE_URL", "REDIS_URL"):
        del service.environment[name]
    service.environment["ERRATA_DATA_DIR"] = str(folder / "new")
    try:
        for command in (("restore", file), ("verify", "--deep"), ("up", "--detach"), ("verify", "--deep")):
            found = errata(service, *command)
            assert found.returncode == 0, f"{command}: {found.stdout}"
        assert (service.stats()["head"], answers(service)) == (head, said)
        service.wait_until_applied(service.post([{"prompt": "Which harbour is new?", "target": "Port New"}]))
    finally:
        stopped = errata(service, "stop")
    assert stopped.returncode == 0, stopped.stdout
