"""Failpoints do what they say, where they say it, and nothing otherwise."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from service import failpoints
from service.settings import Settings


def run(points: str, code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"from service import failpoints\n{code}\nprint('went on')"]
    environment = {**os.environ, failpoints.VARIABLE: points}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_point_that_is_switched_on_ends_the_process_there() -> None:
    done = run(
        "commit.before=kill, commit.after=pause:0.01s", "failpoints.hit('commit.after')\nfailpoints.hit('commit.before')"
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")


def test_words_in_brackets_choose_what_it_is_about() -> None:
    points = "writer.begun[number 5]=error"
    assert run(points, "failpoints.hit('writer.begun', ['number 4'])").stdout == "went on\n"
    assert "FailpointError" in run(points, "failpoints.hit('writer.begun', ['number 4', 'number 5 it is'])").stderr


@pytest.mark.parametrize("points", ["commit.befor=kill", "commit.before=explode", "commit.before"])
def test_what_does_not_exist_is_refused_when_the_process_starts(points: str) -> None:
    assert "ERRATA_FAILPOINTS" in run(points, "").stderr


def test_it_is_no_setting_that_anybody_sets_by_accident() -> None:
    assert "failpoints" not in Settings.model_fields
