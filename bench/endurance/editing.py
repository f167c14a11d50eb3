"""Batches of facts, the next one waiting while one is applied, until told to stop."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Sequence

from service.cli.client import Client

BATCH = 50


class Editing:
    """A thread that posts; from the beginning again, each superseding itself, when the facts are at their end."""

    def __init__(self, url: str, facts: Sequence[dict[str, str]]) -> None:
        self.outcomes: Counter[str] = Counter()
        self.batches = 0
        self._client, self._facts = Client(url), facts
        self._stopping, self._thread = threading.Event(), threading.Thread(target=self._run)
        self._error: Exception | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when what was posted is applied or has failed. Raises what ended the thread."""
        self._stopping.set()
        self._thread.join()
        if self._error:
            raise self._error

    def _run(self) -> None:
        facts, before = itertools.cycle(self._facts), list[int]()
        try:
            while not self._stopping.is_set():
                posted = self._client.submit(list(itertools.islice(facts, min(BATCH, len(self._facts)))))
                self._count(before)
                before = posted
            self._count(before)
        except Exception as error:  # for whoever stops it
            self._error = error

    def _count(self, ids: Sequence[int]) -> None:
        self.outcomes.update(edit["state"] for edit in self._client.finished(ids))
        self.batches += bool(ids)
