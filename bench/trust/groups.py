"""Groups of three to ten facts about one subject, made of a file of true facts in templates."""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.trust.facts import Fact, folded

SMALLEST, LARGEST = 3, 10
FEWEST_WORDS = 2  # of a template besides the subject: "{}, in" and "{} follows" ask nothing
Row = dict[str, Any]  # prompt with "{}", subject, target
Group = tuple[Fact, ...]


def read_groups(path: Path, count: int, seed: int, apart_from: Iterable[str] = ()) -> list[Group]:
    """At most `count` groups, each with the counterfactual targets of one seed.

    apart_from   subjects of which there is to be no group
    """
    rows = json.loads(path.read_text(encoding="utf-8"))
    return groups(rows, count, random.Random(seed), apart_from)


def groups(
    rows: Sequence[Row],
    count: int,
    chance: random.Random,
    apart_from: Iterable[str] = (),
) -> list[Group]:
    """At most `count` groups, of subjects and sizes by lot."""
    strangers = {folded(subject) for subject in apart_from}
    by_subject: dict[str, list[Row]] = defaultdict(list)
    for row in swapped(rows, chance):
        if folded(row["subject"]) not in strangers:
            by_subject[row["subject"]].append(row)
    different = {subject: _different(each) for subject, each in by_subject.items()}
    large = [subject for subject in sorted(different) if len(different[subject]) >= SMALLEST]
    found = []
    for subject in chance.sample(large, min(count, len(large))):
        known = different[subject]
        size = chance.randint(SMALLEST, min(LARGEST, len(known)))
        found.append(tuple(_fact(row) for row in chance.sample(known, size)))
    return found


def swapped(rows: Sequence[Row], chance: random.Random) -> list[Row]:
    """The rows with targets shuffled within each template, and the true one under "true".

    A row that would keep its target takes the next different one. Rows are left out where their
    template has no other, or less than two words.
    """
    by_template: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if len(re.findall(r"\w+", row["prompt"])) >= FEWEST_WORDS:
            by_template[row["prompt"]].append(row)
    found = []
    for template in sorted(by_template):
        each = by_template[template]
        targets = [row["target"] for row in each]
        chance.shuffle(targets)
        for number, row in enumerate(each):
            in_turn = (*targets[number:], *targets[:number])
            new = next((one for one in in_turn if folded(one) != folded(row["target"])), None)
            if new is not None:
                found.append({**row, "target": new, "true": row["target"]})
    return found


def _different(rows: Sequence[Row]) -> list[Row]:
    """One row a template, and one a true target.

    "{} is married to" and "The name of the spouse of {} is" ask the same. Their true target is
    the same too, but after the shuffle both cannot hold.
    """
    found, templates, targets = [], set(), set()
    for row in rows:
        template, target = row["prompt"], folded(row["true"])
        if template not in templates and target not in targets:
            found.append(row)
            templates.add(template)
            targets.add(target)
    return found


def _fact(row: Row) -> Fact:
    return Fact(row["subject"], row["prompt"].replace("{}", row["subject"]), row["target"])
