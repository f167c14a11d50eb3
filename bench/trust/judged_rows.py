"""From answers to rows: what was asked, what is right, what has changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from bench.trust import targets
from bench.trust.asking import Answer
from bench.trust.facts import Fact
from bench.trust.judging import first_line, is_just, leaks, loops, says
from bench.trust.questions import TELL, Staying
from bench.trust.rows import Judged, Row
from bench.trust.targets import target_of
from bench.trust.ways import Put, Way

Asked = tuple[Fact, Put, Answer]  # one fact in one way, and what was said


def way_rows(way: Way, asked: Sequence[Asked], rephrase_posted: bool) -> list[Row]:
    """The way's own row. Of the prompt itself also what comes besides the target."""
    judged = [_judged(way, *each) for each in asked]
    rows = [Row.of(way.name, judged, target_of(way.name, rephrase_posted))]
    if way.name == "prompt, chat":
        ends = [not loops(each.answer.text) and each.answer.ended for each in judged]
        rows.append(_just_row(targets.JUST, judged))
        rows.append(Row.of(targets.ENDS, _again(judged, ends)))
    if way.name == "prompt, plain":
        just = [is_just(first_line(each.answer.text), each.targets[0]) for each in judged]
        rows.append(Row.of(targets.FIRST_LINE, _again(judged, just)))
    return rows


def staying_rows(
    staying: Sequence[Staying],
    before: Sequence[Sequence[Answer]],
    after: Sequence[Sequence[Answer]],
) -> list[Row]:
    """What has not changed, then where targets leak, then how many answers loop."""
    unchanged, leaking, looping = [], [], []
    for each, was, now in zip(staying, before, after, strict=True):
        judged = [
            Judged(question, new, _is_unchanged(old, new), before=old)
            for question, old, new in zip(each.questions, was, now, strict=True)
        ]
        name = targets.UNCHANGED + each.name
        unchanged.append(Row.of(name, judged, target_of(name)))
        if each.targets:
            leaking.append(_leak_row(each, judged))
        if each.name == TELL:
            looping += _loop_rows(judged)
    return [*unchanged, *leaking, *looping]


def group_rows(plain: tuple[Way, Sequence[Asked]], chat: tuple[Way, Sequence[Asked]]) -> list[Row]:
    """Facts about one subject that were posted together, each asked by its own prompt."""
    rows, judged = [], list[Judged]()
    for way, asked in (plain, chat):
        judged = [_judged(way, *each) for each in asked]
        name = targets.GROUPS[way.kind]
        rows.append(Row.of(name, judged, target_of(name)))
    return [*rows, _just_row(targets.GROUPS_JUST, judged)]


def failed_row(rows: Iterable[Row]) -> Row:
    """Answers that never came: each counts as wrong in its own row as well."""
    every = [each for row in rows for each in row.judged if not row.name.startswith("…")]
    judged = [replace(each, right=not each.answer.error) for each in every]
    name = targets.FAILED
    return Row.of(name, judged, target_of(name), counts_wrong=True)


def is_right(put: Put, text: str, at_start: bool) -> bool:
    """Whether the text says what the question wants."""
    said = [says(text, target, at_start) for target in put.targets]
    return any(said) if put.any_of else all(said)


def _judged(way: Way, fact: Fact, put: Put, answer: Answer) -> Judged:
    right = is_right(put, answer.text, way.at_start)
    return Judged(put.question, answer, right, fact.prompt, put.targets)


def _just_row(name: str, judged: Sequence[Judged]) -> Row:
    just = [is_just(each.answer.text, each.targets[0]) and each.answer.ended for each in judged]
    return Row.of(name, _again(judged, just), target_of(name))


def _again(judged: Sequence[Judged], right: Sequence[bool]) -> list[Judged]:
    return [replace(each, right=new) for each, new in zip(judged, right, strict=True)]


def _is_unchanged(before: Answer, after: Answer) -> bool:
    return before.text == after.text and not (before.error or after.error)


def _leak_row(staying: Staying, judged: Sequence[Judged]) -> Row:
    name = targets.LEAKS + staying.name
    found = []
    for each, target in zip(judged, staying.targets, strict=True):
        assert each.before is not None
        leaked = leaks(each.answer.text, each.before.text, target)
        found.append(replace(each, right=not leaked, targets=(target,)))
    return Row.of(name, found, target_of(name), counts_wrong=True)


def _loop_rows(judged: Sequence[Judged]) -> list[Row]:
    before, after = [], []
    for each in judged:
        assert each.before is not None
        was_fine, is_fine = not loops(each.before.text), not loops(each.answer.text)
        before.append(replace(each, answer=each.before, before=None, right=was_fine))
        after.append(replace(each, right=is_fine))
    first = Row.of(targets.TELL_BEFORE, before, counts_wrong=True)
    target = target_of(targets.TELL_AFTER, loops_before=first.share.value)
    return [first, Row.of(targets.TELL_AFTER, after, target, counts_wrong=True)]
