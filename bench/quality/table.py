"""The figures as a table: what was wanted, what the unedited and the edited model give, and the interval of the latter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from bench.measure import comparison
from bench.quality import targets
from bench.quality.figures import Figures
from bench.quality.targets import Target

FORMS = {"ours": "editor_core", "direct": "direct form"}
SCORES = {"ES": "prompt", "GS": "rephrase", "LS": "unrelated"}


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `edited` None: not measured."""

    what: str
    edited: float | None
    unedited: float | None = None
    interval: tuple[float, float] | None = None
    target: Target | None = None
    digits: int = 2

    @property
    def met(self) -> bool | None:
        return None if self.target is None or self.edited is None else self.target.met(self.edited)

    def cells(self) -> tuple[str, ...]:
        colour = {True: "green", False: "red", None: ""}[self.met]
        edited = self._number(self.edited)
        interval = f"{self.interval[0]:.2f} – {self.interval[1]:.2f}" if self.interval else ""
        wanted = self.target.words if self.target else ""
        return self.what, wanted, self._number(self.unedited), f"[{colour}]{edited}[/]" if colour else edited, interval

    def _number(self, value: float | None) -> str:
        return "" if value is None else f"{value:.{self.digits}f}"


def rows(figures: Figures) -> list[Row]:
    return [*_success(figures), *_damage(figures), *_downstream(figures), *_forced(figures), *_cost(figures)]


def print_table(console: Console, figures: Figures) -> None:
    settings = figures["settings"]
    title = f"{settings['edits']} edits of {settings['data']}, {settings['model']}, the published recipe"
    columns = ("target", "unedited", "edited", "95 % interval")
    console.print(comparison(title, columns, [row.cells() for row in rows(figures)]))


def _share(what: str, edited: Figures, unedited: Figures | None = None, target: Target | None = None) -> Row:
    low, high = edited["wilson_95"]
    return Row(what, edited["share"], unedited["share"] if unedited else None, (low, high), target)


def _success(figures: Figures) -> Iterator[Row]:
    for format, kinds in figures["success"].items():
        for kind, of in kinds.items():
            yield _share(f"{format}: {kind}", of["edited"], of["unedited"], targets.SUCCESS.get(kind))


def _damage(figures: Figures) -> Iterator[Row]:
    for format, of in figures["unrelated"].items():
        yield _share(f"{format}: unrelated unchanged", of["unchanged"], target=targets.UNCHANGED)
        yield Row(f"{format}: unrelated KL, nats", of["kl_nats"], target=targets.KL_NATS, digits=3)
    perplexity: dict[str, Any] = figures["perplexity"]
    if perplexity["ratio"] is not None:
        edited = perplexity["ratio"] * perplexity["unedited"]
        yield Row("plain text perplexity", edited, perplexity["unedited"])
        yield Row("plain text perplexity, ratio", perplexity["ratio"], target=targets.PERPLEXITY_RATIO, digits=4)


def _downstream(figures: Figures) -> Iterator[Row]:
    for task, of in figures["downstream"].items():
        yield _share(f"{task}: same choice", of["agreement"])
        yield _share(f"{task}: same choice, balanced", of["balanced"]["agreement"])
        yield _share(f"{task}: accuracy", of["edited"], of["unedited"])
        yield _share(f"{task}: accuracy, balanced", of["balanced"]["edited"], of["balanced"]["unedited"])


def _forced(figures: Figures) -> Iterator[Row]:
    for score, what in SCORES.items():
        of = figures["teacher_forced"][score]
        yield Row(f"{score}, forced: {what}", of["edited"], of["unedited"])
    yield Row("LS, forced: same tokens", figures["teacher_forced"]["LS"]["agreement"])


def _cost(figures: Figures) -> Iterator[Row]:
    cost = figures["cost"]
    yield Row("seconds per edit", cost["seconds_per_edit"])
    for form, steps in cost["published_steps"].items():
        yield Row(f"published steps, {FORMS[form]}", steps, target=targets.PUBLISHED_STEPS)
