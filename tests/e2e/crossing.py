"""One service with servers of its own, whose parts are made to die at given arrows of an edit's life, one after the other."""

from __future__ import annotations

import os
import signal
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import httpx
import psutil
import redis
from service_processes import free_port, wait_for

from service.infra.migrate import migrate
from service.local.postgres import EmbeddedPostgres
from service.local.processes import end_server
from service.local.valkey import EmbeddedValkey
from tests.chaos.client import Asked
from tests.chaos.judge import verdicts
from tests.conftest import MODELS, tiny_environment
from tests.e2e import parts

WITH_WORDS = ("writer.claimed", "writer.begun", "writer.proposed", "writer.persisted", "commit.before")
RETRY = (429, 500, 503)


class Crossing:
    """The parts, and a list of what was asked of them."""

    def __init__(self, folder: Path, tiny_folder: Path) -> None:
        self.postgres, self.valkey = EmbeddedPostgres(folder), EmbeddedValkey(folder)
        self.log = folder / "service.log"
        port = free_port()
        self.environment = {
            **tiny_environment(tiny_folder),
            "DATABASE_URL": self.postgres.start(),
            "REDIS_URL": self.valkey.start(),
            "ERRATA_DATA_DIR": str(folder),
            "ERRATA_MODEL_CACHE_DIR": str(MODELS.resolve()),
            "ERRATA_API_PORT": str(port),
            "ERRATA_WORKER_METRICS_PORT": "0",
            "ERRATA_LEASE_TTL_S": "1",
            "ERRATA_SWEEP_INTERVAL_S": "0.2",
            "ERRATA_BATCH_LINGER_S": "0",
            "ERRATA_EDIT_PASSES": "1",
            "ERRATA_EDIT_FORMATS": "plain",
            "ERRATA_WARMUP_SIZE": "10",
            "ERRATA_CHECKPOINT_EVERY": "1000",
            "ERRATA_PRUNE_EVERY": "1",
        }
        migrate(self.environment["DATABASE_URL"])
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        self.asked: list[Asked] = []
        self.running: dict[str, ForkServerProcess] = {}

    def start(self, part: str, failpoint: str = "", **more: str) -> None:
        environment = {**os.environ, **self.environment, **more, "ERRATA_FAILPOINTS": failpoint}
        self.running[part] = parts.start([part], environment, str(self.log))

    def dead(self, part: str) -> bool:
        code = self.running[part].exitcode
        assert code in (None, -signal.SIGKILL), f"{part} ended with {code}:\n{self.log.read_text()[-3000:]}"
        return code is not None

    def wait_until_dead(self, part: str, where: str) -> None:
        wait_for(lambda: self.dead(part), f"the {part} to die at {where}; log: {self.log}")

    def go_on(self, part: str) -> None:
        """After a failpoint that stopped it."""
        psutil.Process(self.running[part].pid).send_signal(signal.SIGCONT)

    def is_up(self) -> bool:
        try:
            return self.http.get("/livez").status_code == 200
        except httpx.TransportError:
            return False

    def end(self, part: str) -> None:
        self.running[part].kill()
        self.running[part].join(60)

    # --- asking ---------------------------------------------------------------------------------------------------

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Asked:
        """Not sent yet."""
        self.asked.append(Asked(f"key-{len(self.asked)}", method, path, body))
        return self.asked[-1]

    def fact(self, words: str) -> Asked:
        return self.ask("POST", "/edits", {"edits": [{"prompt": f"Which harbour is {words}?", "target": "Port Royal"}]})

    def send(self, asked: Asked) -> bool:
        """Whether there was an answer that says what became of it."""
        try:
            answer = self.http.request(asked.method, asked.path, json=asked.body, headers={"Idempotency-Key": asked.key})
        except httpx.TransportError:
            return False
        if answer.status_code in RETRY or answer.json().get("code") == "request_in_progress":
            return False
        asked.status, asked.answer = answer.status_code, answer.json()
        return True

    def settle(self, asked: Asked) -> Asked:
        wait_for(lambda: self.send(asked), f"an answer to {asked.key}; log: {self.log}")
        return asked

    def applied(self) -> list[int]:
        return [edit["id"] for edit in self.http.get("/edits", params={"state": "applied", "limit": 500}).json()["edits"]]

    # --- servers --------------------------------------------------------------------------------------------------

    def kill(self, victim: str) -> None:
        """victim: "postgres", "redis kept" or "redis wiped"; it is up again at the end."""
        if victim == "postgres":
            self.kill_postgres()
        else:
            self.kill_redis(wiped=victim == "redis wiped")

    def wipe_redis(self) -> None:
        redis.Redis.from_url(self.environment["REDIS_URL"]).flushall()

    def kill_redis(self, wiped: bool) -> None:
        if wiped:
            self.wipe_redis()
        end_server(self.valkey.pid(), signal.SIGKILL, 10)
        self.valkey.revive()

    def kill_postgres(self) -> None:
        postmaster = psutil.Process(self.postgres.pid())
        processes = [postmaster, *postmaster.children()]
        for each in processes:
            each.kill()
        psutil.wait_procs(processes, 10)
        wait_for(self._postgres_is_back, "Postgres to be back")

    def _postgres_is_back(self) -> bool:
        try:
            self.postgres.start()
        except Exception:  # still recovering
            return False
        return True

    # --- the end --------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Everything up, the queue empty, everything that was promised kept."""
        for part in ("api", "worker"):
            if part not in self.running or self.dead(part):
                self.start(part)
        for asked in self.asked:
            if not asked.status:
                self.settle(asked)
        wait_for(self._is_drained, f"everything to be finished; log: {self.log}")
        self.end("worker")
        broken = [line for each in verdicts(self.environment["DATABASE_URL"], self.asked, ()) for line in each.broken]
        assert broken == []
        failed = self.http.get("/edits", params={"state": "failed"}).json()["edits"]
        assert failed == []
        self.start("replay")
        self.running["replay"].join()
        assert self.running["replay"].exitcode == 0, self.log.read_text()[-3000:]

    def _is_drained(self) -> bool:
        try:
            edits = self.http.get("/stats").json()["edits_by_state"]
            operations = self.http.get("/operations").json()["operations"]
        except (httpx.TransportError, KeyError):
            return False
        return not edits["accepted"] + edits["applying"] and all(each["state"] in ("applied", "failed") for each in operations)

    def stop(self) -> None:
        for part in self.running:
            self.end(part)
        self.http.close()
        end_server(self.valkey.pid(), signal.SIGTERM, 10)
        end_server(self.postgres.pid(), signal.SIGINT, 20)
