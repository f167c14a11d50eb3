"""Posting facts to a running service, and waiting until each of them is applied or has failed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from bench.quality.progress import Advance
from bench.trust.facts import Fact
from service.cli.client import Client

Body = dict[str, Any]  # one edit, as POST /edits takes it
MOST_TOGETHER = 200  # edits of one request: what the client sends at once


@dataclass(frozen=True, slots=True)
class Edited:
    """What became of the edits.

    edits           each as GET /edits gives it in the end
    batch_seconds   of each request, from its 202 until the last of its edits was settled
    """

    edits: tuple[dict[str, Any], ...] = ()
    batch_seconds: tuple[float, ...] = ()

    @property
    def states(self) -> dict[str, int]:
        """How many edits ended in each state."""
        return dict(Counter(edit["state"] for edit in self.edits))

    @property
    def failures(self) -> list[dict[str, Any]]:
        """Prompt, target and reason of each edit that failed."""
        return [
            {"prompt": edit["prompt"], "target": edit["target"], "reason": edit.get("failure")}
            for edit in self.edits
            if edit["state"] == "failed"
        ]


Batches = Sequence[Sequence[Body]]
Post = Callable[[Batches, Advance], Edited]


def bodies(facts: Sequence[Fact], with_subject: bool) -> list[Body]:
    """The facts as they are posted, with the rephrases that a caller would send."""
    return [_body(fact, with_subject) for fact in facts]


def in_batches(edits: Sequence[Body], size: int = MOST_TOGETHER) -> list[Sequence[Body]]:
    """The edits, `size` to a request."""
    return [edits[start : start + size] for start in range(0, len(edits), size)]


def posting_to(client: Client) -> Post:
    """Posts one batch after the other to a service; the next one when all of one is settled."""

    def post(batches: Batches, advance: Advance) -> Edited:
        edits, seconds, total = [], [], sum(map(len, batches))
        for batch in batches:
            ids = client.submit(batch)
            accepted_at = time.monotonic()
            for edit in client.finished(ids):
                edits.append(edit)
                advance(len(edits) / total)
            seconds.append(time.monotonic() - accepted_at)
        return Edited(tuple(edits), tuple(seconds))

    return post


def applied_already(url: str, facts: Sequence[Fact], api_key: str = "") -> list[str]:
    """Those of the facts' prompts that an applied edit of the service has. Reads all pages."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    page, found = "/edits?state=applied&limit=500", set[str]()
    with httpx.Client(base_url=url, headers=headers, timeout=60) as http:
        while page:
            edits = http.get(page).raise_for_status().json()
            found |= {edit["prompt"] for edit in edits["edits"]}
            page = edits["next"]
    return [fact.prompt for fact in facts if fact.prompt in found]


def _body(fact: Fact, with_subject: bool) -> Body:
    body: Body = {"prompt": fact.prompt, "target": fact.target}
    if with_subject:
        body["subject"] = fact.subject
    if fact.posted:
        body["rephrases"] = list(fact.posted)
    return body
