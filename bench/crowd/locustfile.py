"""Locust users: nine in ten read their answers to the end, one in ten hangs up midway. Run by `python -m bench crowd`.

By itself: `locust -f bench/crowd/locustfile.py --host http://127.0.0.1:8321 --headless --users 200 --spawn-rate 20`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
from locust import HttpUser, events, task
from requests.exceptions import RequestException

from bench.crowd.judging import LEFT, READ, REFUSED
from bench.serve import prompts

PROMPTS = prompts()
PATIENCE_S = 300


@events.init_command_line_parser.add_listener
def _arguments(parser: Any) -> None:
    parser.add_argument("--tokens", type=int, default=48, help="of an answer, at most")
    parser.add_argument("--out", type=Path, default=None, help="JSON with how often each thing happened")


class Reader(HttpUser):
    weight = 9

    @task
    def ask(self) -> None:
        question = {"prompt": random.choice(PROMPTS), "chat": random.random() < 0.5, "stream": True}
        question["max_tokens"] = random.randint(8, self.environment.parsed_options.tokens)
        with self.client.post(
            "/generate", json=question, stream=True, catch_response=True, name=READ, timeout=PATIENCE_S
        ) as response:
            if response.status_code == 429 and "Retry-After" in response.headers:
                response.request_meta["name"] = REFUSED
                response.success()
            elif response.status_code == 200:
                try:
                    self.hear(response, question["max_tokens"])
                except RequestException as error:
                    response.failure(f"broken off: {type(error).__name__}")
            else:
                response.failure(f"{response.status_code} {response.error or response.text[:200]}")
        if response.status_code == 429:
            gevent.sleep(float(response.headers.get("Retry-After", 1)))

    def hear(self, response: Any, max_tokens: int) -> None:
        *_, last = [{}, *_events(response)]
        if "finish_reason" in last:
            response.success()
        else:
            response.failure(f"no end: {last.get('error')}")


class Leaver(Reader):
    weight = 1

    def hear(self, response: Any, max_tokens: int) -> None:
        """At least one piece, at most half of what there may be."""
        until = random.randint(1, max(max_tokens // 2, 1))
        for number, _ in enumerate(_events(response), 1):
            if number == until:
                break
        response.request_meta["name"] = LEFT
        response.close()
        response.success()


def _events(response: Any) -> Iterator[dict[str, Any]]:
    for line in response.iter_lines():
        if line.startswith(b"data: "):
            yield json.loads(line.removeprefix(b"data: "))


@events.quitting.add_listener
def _write(environment: Any, **others: Any) -> None:
    out = environment.parsed_options.out
    if out is None:
        return
    counts = {name: entry.num_requests - entry.num_failures for (name, _), entry in environment.stats.entries.items()}
    failures = [f"{error.occurrences} × {error.name}: {error.error}" for error in environment.stats.errors.values()]
    out.write_text(json.dumps({"counts": counts, "failures": failures}))
