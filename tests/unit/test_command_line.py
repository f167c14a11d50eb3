"""The `errata` command without a service: clear words, exit code 1, and no torch in the way."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli import running
from service.cli.client import Client
from service.cli.facts import FactsError, read_facts
from service.cli.main import app
from service.errors import ErrataError
from service.infra.postgres import driver_url
from service.settings import FACTS, Settings


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CliRunner:
    monkeypatch.setenv("ERRATA_SERVER_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("ERRATA_DATA_DIR", str(tmp_path))
    return CliRunner()


@pytest.mark.parametrize("arguments", [["ask", "Who?"], ["edit", "Who?", "Ann"], ["status"], ["demo"]])
def test_without_a_service_it_says_how_to_start_one(runner: CliRunner, arguments: list[str]) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 1
    assert "errata up" in result.output


def test_edit_wants_a_fact_or_a_file(runner: CliRunner) -> None:
    result = runner.invoke(app, ["edit", "Who?"])
    assert result.exit_code == 1
    assert "--file" in result.output


def test_starting_where_somebody_else_answers_is_an_error(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("ERRATA_API_PORT", str(taken.getsockname()[1]))
        result = runner.invoke(app, ["up", "--detach"])
    assert result.exit_code == 1
    assert "ERRATA_API_PORT" in result.output
    assert not list(tmp_path.iterdir())


def test_stop_with_nothing_running_says_so(runner: CliRunner) -> None:
    assert "nothing was running" in runner.invoke(app, ["stop"]).output


def test_the_log_is_its_owners_alone_and_the_folder_above_is_left_as_it_is(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.setenv("ERRATA_DATA_DIR", str(tmp_path / ".errata"))
    monkeypatch.setattr(running.subprocess, "Popen", lambda *arguments, **others: None)
    monkeypatch.setattr(running, "_wait_until_ready", lambda *arguments: None)
    monkeypatch.setattr("service.local.supervisor.require_free_port", lambda *arguments: None)
    before = os.umask(0o022)
    try:
        assert runner.invoke(app, ["up", "--detach"]).exit_code == 0
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(each.stat().st_mode) for each in (tmp_path, tmp_path / ".errata", tmp_path / ".errata/errata.log")]
    assert [oct(mode) for mode in modes] == ["0o755", "0o700", "0o600"]


@pytest.mark.parametrize("line", ["{", '{"prompt": "Who?"}', "[]", '{"prompt": "Who?", "target": "Ann", "topic": "x"}'])
def test_a_file_of_facts_is_refused_with_the_line_that_is_wrong(tmp_path: Path, line: str) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text('{"prompt": "Who?", "target": "Ann"}\n\n' + line + "\n")
    with pytest.raises(FactsError, match=r"facts\.jsonl:3"):
        read_facts(path)


def test_a_file_of_facts_may_say_what_they_are_about(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text('{"prompt": "Who?", "target": "Ann", "subject": "the mayor", "aliases": ["her honour"]}\n')
    assert read_facts(path) == [{"prompt": "Who?", "target": "Ann", "subject": "the mayor", "aliases": ["her honour"]}]


def test_the_subject_of_one_fact_is_not_that_of_a_file(runner: CliRunner, tmp_path: Path) -> None:
    result = runner.invoke(app, ["edit", "--file", str(tmp_path / "facts.jsonl"), "--alias", "her honour"])
    assert (result.exit_code, "--subject and --alias are of one fact" in result.output) == (1, True), result.output


def test_one_fact_is_posted_with_its_names_and_shown_with_those_it_is_found_by(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    posted: list[dict[str, Any]] = []
    found = {"id": 1, "prompt": "Who?", "target": "Ann", "state": "applied", "revision": 2, "holds": {"plain": True}}
    answers = {"before": None, "after": {"plain": "Ann"}}
    monkeypatch.setattr(Client, "submit", lambda self, facts: posted.extend(facts) or [1])
    monkeypatch.setattr(Client, "finished", lambda self, ids: [{**found, "answers": answers, "scope": ["Lake [T]", "it"]}])
    named = ["--subject", "Lake [T]", "--alias", "it", "--alias", "the lake"]
    result = runner.invoke(app, ["edit", "Who?", "Ann", *named])
    assert posted == [{"prompt": "Who?", "target": "Ann", "subject": "Lake [T]", "aliases": ["it", "the lake"]}]
    assert "found by: Lake [T], it" in result.output


@pytest.mark.parametrize("name", ["calibration.jsonl", "demo.jsonl", "warmup.jsonl"])
def test_the_facts_that_are_shipped_can_be_read(name: str) -> None:
    facts = read_facts(FACTS / name)
    assert len({fact["prompt"] for fact in facts}) == len(facts)


@pytest.mark.parametrize("module", ["service.api.app", "service.cli.main"])
def test_neither_api_nor_command_line_loads_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://db/errata")
    monkeypatch.setenv("ERRATA_EDIT_MODULES", "a.b, c.d")
    monkeypatch.setenv("ERRATA_API_HOST", "0.0.0.0")
    settings = Settings()
    assert settings.database_url == "postgresql://db/errata"
    assert settings.edit_modules == ("a.b", "c.d")
    assert settings.api_url == "http://127.0.0.1:8321"


@pytest.mark.parametrize("rate", ["many", "0/minute", "5/fortnight", "5/second;"])
def test_a_rate_that_cannot_be_meant_is_refused(runner: CliRunner, monkeypatch: pytest.MonkeyPatch, rate: str) -> None:
    monkeypatch.setenv("ERRATA_RATE_LIMIT_EDITS", rate)
    result = runner.invoke(app, ["keys", "list"])
    assert (result.exit_code, "rate_limit_edits" in result.output) == (1, True), result.output


def test_postgres_urls_of_every_common_form_are_understood() -> None:
    for url in ("postgres://u@h/d", "postgresql://u@h/d", "postgresql+psycopg://u@h/d"):
        assert driver_url(url) == "postgresql+psycopg://u@h/d"
    with pytest.raises(ErrataError, match="postgresql://"):
        driver_url("mysql://u@h/d")
