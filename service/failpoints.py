"""Named points of an edit's or a question's life at which a test can make this process die, stop, wait or fail.

ERRATA_FAILPOINTS="commit.before=kill, writer.claimed=pause:3s, writer.begun[some words]=kill" switches them on when the process
starts; without it a point costs one look into an empty mapping. Words in brackets: only where what is being done has them.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Mapping

VARIABLE = "ERRATA_FAILPOINTS"
POINTS = (
    "api.validated",
    "submit.before_commit",
    "submit.after_commit",
    "api.rung",
    "writer.claimed",
    "writer.begun",
    "writer.proposed",
    "writer.persisted",
    "commit.before",
    "commit.after",
    "writer.applied",
    "writer.published",
    "operation.begun",
    "checkpoint.before",
    "prune.before",
    "restore.step",
    "question.begun",
)
_ONE = re.compile(r"(?P<point>[\w.]+)(?:\[(?P<words>[^\]]*)\])?=(?P<action>kill|stop|error|pause):?(?P<seconds>[\d.]*)s?")


class FailpointError(RuntimeError):
    """What the action "error" raises."""


def _parsed(text: str) -> Mapping[str, list[tuple[str, Callable[[], None]]]]:
    """Raises ValueError for a point or an action that does not exist: a test that names one would prove nothing."""
    found: dict[str, list[tuple[str, Callable[[], None]]]] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        match = _ONE.fullmatch(part)
        if match is None or match["point"] not in POINTS:
            raise ValueError(f"{VARIABLE}: {part!r} is not a point and its action")
        found.setdefault(match["point"], []).append((match["words"] or "", _action(match["action"], match["seconds"])))
    return found


def _action(name: str, seconds: str) -> Callable[[], None]:
    if name == "pause":
        return lambda: time.sleep(float(seconds or 1))  # the whole process waits, lease and all
    if name == "error":
        return _raise
    number = signal.SIGKILL if name == "kill" else signal.SIGSTOP
    return lambda: os.kill(os.getpid(), number)


def _raise() -> None:
    raise FailpointError("a failpoint says so")


_ACTIVE = _parsed(os.environ.get(VARIABLE, ""))


def hit(point: str, about: Iterable[str] = ()) -> None:
    """Do what is switched on for this point; about: texts in which the words in brackets are looked for."""
    for words, action in _ACTIVE.get(point, ()):
        if not words or any(words in text for text in about):
            action()
