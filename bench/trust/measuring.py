"""One measurement: ask what must stay, edit, ask it again, ask for the facts, then the groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from bench.quality.progress import Advance, Phases
from bench.trust.asking import Answer, Asker
from bench.trust.editing import Edited, Post, bodies, in_batches
from bench.trust.facts import Fact
from bench.trust.groups import Group
from bench.trust.harder_ways import INFORMATIVE
from bench.trust.judged_rows import Asked, failed_row, group_rows, staying_rows, way_rows
from bench.trust.questions import Staying, staying
from bench.trust.rows import Row
from bench.trust.ways import ANSWER_TOKENS, REQUIRED, Way, neighbours

WAYS = (*REQUIRED, *INFORMATIVE)
OF_GROUPS = REQUIRED[:2]  # the prompt itself, plain and chat
TOKENS_PER_S, EDIT_S = 100.0, 4.0  # about, on two cores: how the bar is divided


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured.

    others         facts that are not edited, about other subjects
    groups         facts about one subject each, posted after all others
    with_subject   the subject is posted with each edit
    """

    facts: Sequence[Fact]
    others: Sequence[Fact]
    groups: Sequence[Group] = ()
    with_subject: bool = False

    @property
    def rephrase_posted(self) -> bool:
        """Whether edits have rephrases with them."""
        return any(fact.posted for fact in self.facts)

    @property
    def of_groups(self) -> list[Fact]:
        """All facts of all groups."""
        return [fact for group in self.groups for fact in group]


@dataclass(frozen=True, slots=True)
class Measured:
    """What came out.

    edited, of_groups   what became of the edits
    seconds             of each phase
    """

    rows: tuple[Row, ...]
    edited: Edited
    of_groups: Edited
    seconds: dict[str, float]


def measure(console: Console, asker: Asker, post: Post | None, plan: Plan) -> Measured:
    """Everything, with a progress bar. `post` None: nothing is edited."""
    sorts = staying(plan.facts, plan.others)
    with Phases(console, _weights(plan, sorts)) as phases:
        with phases("asking what must stay") as advance:
            before = _answers(asker, sorts, advance)
        edited, of_groups = Edited(), Edited()
        with phases("editing") as advance:
            if post:
                edited = post(in_batches(bodies(plan.facts, plan.with_subject)), advance)
        with phases("asking it again") as advance:
            after = _answers(asker, sorts, advance)
        with phases("asking for the facts") as advance:
            asked = ask_in_ways(asker, plan.facts, WAYS, advance)
        with phases("editing groups") as advance:
            if post and plan.groups:
                groups = [bodies(group, plan.with_subject) for group in plan.groups]
                of_groups = post(groups, advance)
        with phases("asking for the groups") as advance:
            plain, chat = ask_in_ways(asker, plan.of_groups, OF_GROUPS, advance)
    rows = list[Row]()
    for way, each in zip(WAYS, asked, strict=True):
        rows += way_rows(way, each, plan.rephrase_posted)
    rows += staying_rows(sorts, before, after)
    if plan.groups:
        rows += group_rows((OF_GROUPS[0], plain), (OF_GROUPS[1], chat))
    return Measured(
        rows=(*rows, failed_row(rows)),
        edited=edited,
        of_groups=of_groups,
        seconds=phases.stopwatch.seconds,
    )


def ask_in_ways(
    asker: Asker,
    facts: Sequence[Fact],
    ways: Sequence[Way],
    advance: Advance,
) -> list[list[Asked]]:
    """By way: every fact of which it makes sense, as it was put, and the answer."""
    puts = [
        (number, fact, put)
        for number, way in enumerate(ways)
        for fact, other in zip(facts, neighbours(facts), strict=True)
        if (put := way.put(fact, other)) is not None
    ]
    answers = asker.every([put.question for _, _, put in puts], ANSWER_TOKENS, advance)
    found: list[list[Asked]] = [[] for _ in ways]
    for (number, fact, put), answer in zip(puts, answers, strict=True):
        found[number].append((fact, put, answer))
    return found


def _answers(asker: Asker, sorts: Sequence[Staying], advance: Advance) -> list[list[Answer]]:
    total = max(sum(map(_tokens, sorts)), 1)
    done, found = 0, []
    for sort in sorts:
        part = _part_of(advance, done / total, _tokens(sort) / total)
        found.append(asker.every(sort.questions, sort.max_tokens, part))
        done += _tokens(sort)
    return found


def _part_of(advance: Advance, begin: float, share: float) -> Advance:
    return lambda done: advance(begin + share * done)


def _tokens(sort: Staying) -> int:
    return len(sort.questions) * sort.max_tokens


def _weights(plan: Plan, sorts: Sequence[Staying]) -> dict[str, float]:
    """About how many seconds each phase takes."""
    staying_s = sum(map(_tokens, sorts)) / TOKENS_PER_S
    answer_s = ANSWER_TOKENS / TOKENS_PER_S
    return {
        "asking what must stay": staying_s,
        "editing": EDIT_S * len(plan.facts),
        "asking it again": staying_s,
        "asking for the facts": answer_s * len(plan.facts) * len(WAYS),
        "editing groups": EDIT_S * len(plan.of_groups),
        "asking for the groups": answer_s * len(plan.of_groups) * len(OF_GROUPS),
    }
