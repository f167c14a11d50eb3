"""From what two models said to the figures that are kept: plain dictionaries, ready for JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.measure import Stopwatch
from bench.quality.asking import KINDS, Answer, success
from bench.quality.downstream import Item, Scores, chosen, lean, task_score, without
from bench.quality.editing import AppliedBatch
from bench.quality.forced import SCORES, accuracy, agreement
from bench.quality.intervals import Share
from bench.quality.likelihood import Likelihood
from bench.quality.reference import Damage, Reference
from editor_core.texts import Format

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Said:
    """What one model said: free answers, likelihoods of the targets by score, scores of options by task."""

    answers: list[Answer]
    forced: dict[str, list[Likelihood]]
    scores: dict[str, Scores]


def success_figures(unedited: Said, edited: Said, formats: Sequence[Format]) -> Figures:
    """Free greedy generation, by format and kind of question."""
    models = {"unedited": unedited, "edited": edited}
    return {
        format: {
            kind: {model: success(said.answers, kind, format).as_json() for model, said in models.items()} for kind in KINDS
        }
        for format in formats
    }


def damage_figures(reference: Reference, damage: Damage) -> Figures:
    """Against the unedited model, by format, and of plain text."""
    count = len(reference.prompts)
    return {
        "unrelated": {
            format: {
                "unchanged": Share(count - len(changed), count).as_json(),
                "kl_nats": damage.kl_nats[format],
                "changed": changed,
            }
            for format, changed in damage.changed.items()
        },
        "perplexity": {"unedited": reference.perplexity, "ratio": damage.perplexity_ratio, "texts": len(reference.texts)},
    }


def forced_figures(unedited: Said, edited: Said) -> Figures:
    """The papers' scores of both models; `agreement` of LS: with the unedited model in place of the data set."""
    scores: Figures = {
        score: {"unedited": accuracy(unedited.forced[score]), "edited": accuracy(edited.forced[score])} for score in SCORES
    }
    scores["LS"]["agreement"] = agreement(unedited.forced["LS"], edited.forced["LS"])
    return scores


def downstream_figures(items: Mapping[str, Sequence[Item]], unedited: Said, edited: Said) -> Figures:
    """By task, and over all tasks together: agreement of both models' choices, and accuracy of each.

    `balanced`: the same after the unedited model's lean towards an option is taken from the scores of both.
    """
    labels = {task: [item.label for item in each] for task, each in items.items()}
    leans = {task: lean(unedited.scores[task]) for task in items}
    raw = [_choices(labels, said.scores) for said in (unedited, edited)]
    balanced = [
        _choices(labels, {task: without(said.scores[task], leans[task]) for task in items}) for said in (unedited, edited)
    ]
    if items:
        labels["all"] = [label for each in list(labels.values()) for label in each]
    return {
        task: _task_figures(right, *(each[task] for each in raw))
        | {"balanced": _task_figures(right, *(each[task] for each in balanced))}
        for task, right in labels.items()
    }


def _choices(tasks: Iterable[str], scores: Mapping[str, Scores]) -> dict[str, list[int]]:
    """By task, and over all tasks together: the options chosen."""
    choices = {task: chosen(scores[task]) for task in tasks}
    return choices | {"all": [choice for each in choices.values() for choice in each]}


def _task_figures(labels: Sequence[int], unedited: Sequence[int], edited: Sequence[int]) -> Figures:
    score = task_score(labels, unedited, edited)
    shares = {name: getattr(score, name).as_json() for name in ("agreement", "unedited", "edited")}
    return shares | {"options_chosen": {"unedited": dict(Counter(unedited)), "edited": dict(Counter(edited))}}


def cost_figures(batches: Sequence[AppliedBatch], published: Mapping[str, Stopwatch], edits: int) -> Figures:
    """Seconds per edit, and how many published steps that is. published: one step each over `edits` edits, by form."""
    per_edit = sum(each.seconds for each in batches) / sum(each.edits for each in batches)
    return {
        "seconds_per_edit": per_edit,
        "published_steps": {form: per_edit * edits / stopwatch.total for form, stopwatch in published.items()},
        "published_step": {
            form: {
                "edits": edits,
                "seconds": stopwatch.total,
                "stages": stopwatch.seconds,
                "cores_of_others": stopwatch.cores_of_others,
            }
            for form, stopwatch in published.items()
        },
        "batches": [asdict(each) for each in batches],
    }


def answer_figures(unedited: Said, edited: Said) -> list[Figures]:
    """Every question with what both models answer."""
    return [
        {**asdict(after), "said": {"unedited": before.said, "edited": after.said}, "holds": after.holds}
        for before, after in zip(unedited.answers, edited.answers, strict=True)
    ]
