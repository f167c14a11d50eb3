"""A client that wants every answer: it asks again, with the same key, until it knows, and keeps a list of what it knows."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx

TIMEOUT_S, RETRY_S = 5.0, 0.3
MOST_WAITING = 60  # edits; the client waits while there are more, or draining at the end would take as long as the run
TO_BE_REPEATED = (429, 503)
OLD_PROMPT, SAME_AGAIN, OTHER_BODY = 0.2, 0.1, 0.03
TOO_LONG, POISONOUS = 0.04, 0.006  # of the facts
POISON = "the harbour that ends workers"
TOO_MANY_TOKENS = "\N{SNOWMAN}" * 900  # of three tokens each: within the api's limit of characters, beyond the model's


@dataclass
class Asked:
    """One request and its answer: the status that settled it, or 0 while nobody knows."""

    key: str
    method: str
    path: str
    body: dict[str, Any] | None = None
    status: int = 0
    answer: dict[str, Any] = field(default_factory=dict)


class Client:
    """Posts, reverts, rolls back and has the model rebuilt. `wrong` holds what the service answered that it must not.

    Some facts cannot be applied: one that no model can be taught, one that ends every worker that takes it (see __main__).
    """

    def __init__(self, url: str, seed: int, list_file: Path) -> None:
        self.url, self._seed, self._list = url, seed, list_file
        self.asked: list[Asked] = []
        self.edit_ids: list[int] = []
        self.wrong: list[str] = []
        self.tries: Counter[str] = Counter()
        self._prompts: list[str] = []
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopping.set()

    async def run(self, name: str) -> None:
        """One of several that act at the same time, until told to stop and all of its requests are settled."""
        chance = random.Random(f"{self._seed} {name}")
        async with httpx.AsyncClient(base_url=self.url, timeout=TIMEOUT_S) as http:
            while not self._stopping.is_set():
                asked = await self._next(http, chance, f"{self._seed}-{name}-{len(self.asked)}")
                self.asked.append(asked)
                await self._settle(http, asked)
                await self._again(http, chance, asked)
                await asyncio.sleep(chance.expovariate(4))
                await self._let_it_catch_up(http)

    async def _next(self, http: httpx.AsyncClient, chance: random.Random, key: str) -> Asked:
        draw = chance.random()
        if draw < 0.10 and self.edit_ids:
            return Asked(key, "DELETE", f"/edits/{chance.choice(self.edit_ids)}")
        if draw < 0.14 and (head := await self._head(http)) > 3:
            return Asked(key, "POST", "/rollback", {"to_revision": max(1, head - chance.randint(0, 4)), "reason": key})
        if draw > 0.985 and self.edit_ids:
            without = sorted({chance.choice(self.edit_ids) for _ in range(chance.randint(0, 2))})
            return Asked(key, "POST", "/rebuild", {"without": without, "reason": key})
        return Asked(key, "POST", "/edits", {"edits": [self._fact(chance, key, i) for i in range(chance.randint(1, 4))]})

    def _fact(self, chance: random.Random, key: str, index: int) -> dict[str, str]:
        if self._prompts and chance.random() < OLD_PROMPT:
            prompt = chance.choice(self._prompts)
        else:
            prompt = f"Which harbour is number {len(self._prompts)} on the list?"
            self._prompts.append(prompt)
        kind = chance.random()
        if kind < TOO_LONG:
            return {"prompt": f"{prompt} {TOO_MANY_TOKENS}", "target": "Port Snow"}
        if kind < TOO_LONG + POISONOUS:
            return {"prompt": f"What is {POISON} called, by {key}?", "target": "Port Poison"}
        return {"prompt": prompt, "target": f"Port {key} {index}"}

    async def _settle(self, http: httpx.AsyncClient, asked: Asked) -> None:
        """Ask until the answer is known."""
        while not asked.status:
            answer = await self._send(http, asked, asked.body)
            if answer is None or answer.status_code in TO_BE_REPEATED or _is_under_way(answer):
                await asyncio.sleep(RETRY_S)
                continue
            if answer.status_code >= 500:
                self.wrong.append(f"{asked.method} {asked.path} with key {asked.key}: {answer.status_code} {answer.text[:300]}")
                await asyncio.sleep(RETRY_S)
                continue
            asked.status, asked.answer = answer.status_code, answer.json()
            self.edit_ids += asked.answer.get("ids", [])
        with self._list.open("a") as file:
            file.write(json.dumps(asdict(asked)) + "\n")

    async def _again(self, http: httpx.AsyncClient, chance: random.Random, asked: Asked) -> None:
        """The same request gives the same answer; the same key with another body is refused."""
        if asked.status != 202:
            return
        if chance.random() < SAME_AGAIN and (answer := await self._send(http, asked, asked.body)) is not None:
            same = [answer.json().get(name) == asked.answer.get(name) for name in ("ids", "id", "submission_id")]
            if answer.status_code == 202 and not (all(same) and answer.json()["replayed"]):
                self.wrong.append(f"key {asked.key} again gave another answer: {answer.text[:300]}")
        if asked.path == "/edits" and chance.random() < OTHER_BODY:
            answer = await self._send(http, asked, {"prompt": "Another?", "target": "body"})
            if answer is not None and answer.status_code < 400:
                self.wrong.append(f"key {asked.key} was accepted with another body")

    async def _send(self, http: httpx.AsyncClient, asked: Asked, body: dict[str, Any] | None) -> httpx.Response | None:
        """None when there was no answer: whether it was accepted is not known then."""
        headers = {"Idempotency-Key": asked.key, "X-Errata-Actor": "chaos"}
        try:
            answer = await http.request(asked.method, asked.path, json=body, headers=headers)
        except httpx.TransportError as error:
            self.tries[type(error).__name__] += 1
            return None
        self.tries[str(answer.status_code)] += 1
        return answer

    async def _stats(self, http: httpx.AsyncClient) -> dict[str, Any]:
        try:
            answer = await http.get("/stats")
        except httpx.TransportError:
            return {}
        return dict(answer.json()) if answer.status_code == 200 else {}

    async def _let_it_catch_up(self, http: httpx.AsyncClient) -> None:
        while await self._waiting(http) > MOST_WAITING and not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), RETRY_S)

    async def _head(self, http: httpx.AsyncClient) -> int:
        return int(((await self._stats(http)).get("head") or {}).get("number", 0))

    async def _waiting(self, http: httpx.AsyncClient) -> int:
        """Edits that are not done with; many, as long as nobody says."""
        by_state = (await self._stats(http)).get("edits_by_state")
        return MOST_WAITING + 1 if by_state is None else by_state["accepted"] + by_state["applying"]


def _is_under_way(answer: httpx.Response) -> bool:
    return answer.status_code == 409 and answer.json().get("code") == "request_in_progress"
