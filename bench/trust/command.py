"""`python -m bench trust`: the command line."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.measure import RESULTS
from bench.ready import require_ready
from bench.trust.asking import CLIENTS, Http
from bench.trust.editing import applied_already, posting_to
from bench.trust.facts import Fact, apart_from, read_facts
from bench.trust.groups import read_groups
from bench.trust.measuring import Measured, Plan, measure
from bench.trust.own_service import own_service
from bench.trust.picture import Thresholds, draw
from bench.trust.report import report, write_report
from bench.trust.table import markdown
from bench.trust.thresholds import by_threshold
from service.cli.client import ApiError, Client
from service.settings import Settings

MODES = ("scoped", "paper", "none")
OTHERS = 40  # facts of other subjects, from the end of the file


def main(arguments: Sequence[str], thresholds: Thresholds | None = None) -> None:
    """Measures, prints a markdown table, writes the JSON file.

    thresholds   what --picture draws: (threshold, rephrased, unchanged) of the facts; None: the gate's own
    """
    parser = _parser()
    asked, console = parser.parse_args(arguments), Console()
    thresholds = thresholds or by_threshold
    plan = _plan(asked)
    try:
        with _service(console, asked) as url:
            measured = _measure(console, asked, plan, url)
    except ApiError as error:
        raise SystemExit(str(error)) from error
    title = f"{len(plan.facts)} edits of {asked.facts.name}, {asked.mode}"
    console.print(markdown(title, measured), markup=False, highlight=False, soft_wrap=True)
    settings = _settings(asked, plan)
    if asked.picture:
        triples = thresholds(plan.facts)
        asked.picture.write_text(draw(triples, title), encoding="utf-8")
        settings["thresholds"] = [list(each) for each in triples]
        console.print(f"written to {asked.picture}", highlight=False)
    out = asked.out or RESULTS / f"trust-{asked.mode}.json"
    write_report(out, report(measured, settings, asked.seed))
    console.print(f"written to {out}", highlight=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench trust",
        description="what edits are worth to the people who use them",
    )
    add = parser.add_argument
    add("facts", type=_file, help="JSON list of {subject, prompt, rephrase, target}")
    add("--url", help="a running service; one of its own is started when left out")
    add("--mode", choices=MODES, default=MODES[0], help="ERRATA_EDIT_MODE; none: nothing is edited")
    add("--start", type=int, default=0, help="number of the first fact, from 0")
    add("--edits", type=int, default=50, help="how many facts to edit, at most")
    add("--others", type=_file, help=f"facts of other subjects, or FACTS: the last {OTHERS}")
    add("--groups", type=_file, help="JSON list of {prompt with {}, subject, target}: true facts")
    add("--group-count", type=int, default=12, help="subjects of which a group is made")
    add("--out", type=Path, help="the JSON file; default: bench/results/trust-MODE.json")
    add("--picture", type=Path, help="an SVG of what the gate's threshold trades")
    add("--subject", action="store_true", help="post the subject with each edit")
    add("--with-rephrase", type=int, default=0, metavar="N", help="post N rephrases with each edit")
    add("--clients", type=int, default=CLIENTS, help="questions that are asked at once")
    add("--seed", type=int, default=0, help="of groups, their targets, and answers drawn")
    return parser


def _plan(asked: argparse.Namespace) -> Plan:
    facts = read_facts(asked.facts, asked.start, asked.edits, asked.with_rephrase)
    others = apart_from(read_facts(asked.others or asked.facts), facts)[-OTHERS:]
    groups = []
    if asked.groups:
        edited = [fact.subject for fact in facts]
        groups = read_groups(asked.groups, asked.group_count, asked.seed, edited)
    return Plan(facts, others, groups, with_subject=asked.subject)


@contextmanager
def _service(console: Console, asked: argparse.Namespace) -> Iterator[str]:
    """The one that was named, or one of its own."""
    if asked.url:
        require_ready(asked.url)
        yield asked.url.rstrip("/")
        return
    with own_service(console, None if asked.mode == "none" else asked.mode) as url:
        yield url


def _measure(console: Console, asked: argparse.Namespace, plan: Plan, url: str) -> Measured:
    api_key = Settings().api_key if asked.url else ""
    post = None
    if asked.mode != "none":
        _require_unedited(url, [*plan.facts, *plan.of_groups], api_key)
        post = posting_to(Client(url, api_key=api_key))
    return measure(console, Http(url, asked.clients, api_key), post, plan)


def _require_unedited(url: str, facts: Sequence[Fact], api_key: str) -> None:
    """What is said before the edits has to be asked of a model that has none of them."""
    if there := applied_already(url, facts, api_key):
        raise SystemExit(f"{len(there)} of the facts are applied there already: {there[0]}")


def _settings(asked: argparse.Namespace, plan: Plan) -> dict[str, Any]:
    named = {name: _in_json(value) for name, value in vars(asked).items()}
    counts = {"facts": len(plan.facts), "others": len(plan.others), "groups": len(plan.groups)}
    return {**named, "counts": counts}


def _in_json(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _file(name: str) -> Path:
    if not (path := Path(name)).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {path}")
    return path
