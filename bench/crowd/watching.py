"""What api and worker say of themselves in their metrics, once a second."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families

INTERVAL_S = 1.0
SERVED = {
    "errata_open_questions": "questions that the api waits for",
    "errata_questions_held": "questions that the worker holds",
    "errata_num_requests_running": "answers under way",
    "errata_num_requests_waiting": "answers waiting",
}
MEMORY, FILES, TASKS = "process_resident_memory_bytes", "process_open_fds", "errata_event_loop_tasks"


@dataclass(frozen=True, slots=True)
class Sample:
    """By process ("api", "worker") and name of the metric; those with labels are left out."""

    values: dict[tuple[str, str], float]

    def of(self, process: str, name: str) -> float:
        return self.values[process, name]

    def memory_mib(self, process: str) -> float:
        return self.of(process, MEMORY) / 2**20

    @property
    def left(self) -> dict[str, float]:
        """What is still there of anybody's question, by what it is."""
        return {words: self._sum(name) for name, words in SERVED.items() if self._sum(name)}

    def _sum(self, name: str) -> float:
        return sum(value for (_, each), value in self.values.items() if each == name)


class Watch:
    """Keeps the most memory that each process had since `start`."""

    def __init__(self, urls: dict[str, str]) -> None:
        self.peak_mib = dict.fromkeys(urls, 0.0)
        self._urls = urls
        self._stopping, self._thread = threading.Event(), threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self.sample()  # raises here and now where there is nothing to watch
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        self._thread.join()

    def sample(self) -> Sample:
        """Raises httpx.HTTPError."""
        values = {}
        for process, url in self._urls.items():
            text = httpx.get(url, timeout=60).raise_for_status().text
            for family in text_string_to_metric_families(text):
                values |= {(process, each.name): each.value for each in family.samples if not each.labels}
            self.peak_mib[process] = max(self.peak_mib[process], values[process, MEMORY] / 2**20)
        return Sample(values)

    def quiet(self, timeout_s: float) -> Sample:
        """As soon as nobody's question is left, or when the time is over."""
        for _ in range(int(timeout_s / INTERVAL_S)):
            sample = self.sample()
            if not sample.left or self._stopping.wait(INTERVAL_S):
                break
        return sample

    def _run(self) -> None:
        while not self._stopping.wait(INTERVAL_S):
            with contextlib.suppress(httpx.HTTPError):  # a full api answers late
                self.sample()
