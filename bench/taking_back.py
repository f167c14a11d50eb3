"""`python -m bench taking-back`: what is left when facts are taken back from a running service, or its model is taken away.

1. Facts are taught, and one of them is subtracted: do the others hold as they did, is the old answer back?
2. More facts come one by one, a revision each, and some of these revisions are rolled back: is the fingerprint the same?
3. The model is exported, loaded by plain transformers in a process of its own, and asked: are the greedy answers the same?

Asked through the api, as users would; the export needs the service's own settings, as `errata export` does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.measure import RESULTS, write_result
from bench.quality.facts import Fact, read_facts
from bench.quality.intervals import Share
from bench.quality.progress import Advance, Phases, in_parts
from service.cli.client import UNFINISHED, Client
from service.settings import Settings

FORMATS = ("plain", "chat")
ANSWER_TOKENS = 24
AT_ONCE = 16  # questions, where it is asked whether facts hold
CANDIDATES = 5  # facts before the middle, and after it, of which one is subtracted
POLL_S = 0.3
PLAIN = Path(__file__).with_name("plain_transformers.py")

Answers = dict[tuple[str, str], str]  # by (prompt, format)


@dataclass(slots=True)
class Found:
    """What came of it. Shares are counted by prompt and format."""

    held_before: Share = field(default_factory=lambda: Share(0, 0))
    held_after: Share = field(default_factory=lambda: Share(0, 0))
    old_answers_back: Share = field(default_factory=lambda: Share(0, 0))
    exported_the_same: Share = field(default_factory=lambda: Share(0, 0))
    fingerprints: tuple[str, str] = ("", "?")
    refused: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    differing: list[dict[str, str]] = field(default_factory=list)
    revisions: dict[str, int] = field(default_factory=dict)

    def promises(self) -> dict[str, tuple[bool, str]]:
        """By name: whether it is kept, and the figure."""
        before, after = self.fingerprints
        asked = self.held_after.trials
        held = f"{self.held_after.successes} of {asked} (before: {self.held_before.successes})"
        return {
            "the others hold after the subtract": (asked > 0 and not self.lost, held),
            "the old answer of the one is back": _all(self.old_answers_back),
            "rolled back, the same fingerprint": (before == after, f"{before[:16]}… and {after[:16]}…"),
            "exported, plain transformers says the same": _all(self.exported_the_same),
        }


def _all(share: Share) -> tuple[bool, str]:
    return share.successes == share.trials > 0, f"{share.successes} of {share.trials}"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench taking-back", description="take facts back from a running service")
    parser.add_argument("--data", type=Path, required=True, help="JSON list of facts, as for quality")
    parser.add_argument("--start", type=int, default=0, help="number of the first fact, from 0")
    parser.add_argument("--facts", type=int, default=50, help="taught together; one of them is subtracted")
    parser.add_argument("--single", type=int, default=25, help="taught one by one afterwards")
    parser.add_argument("--back", type=int, default=20, help="of these, how many revisions are rolled back")
    parser.add_argument("--every", type=int, default=1, help="the export is asked every so many facts")
    parser.add_argument("--url", default=Settings().api_url, help="where the service is")
    parser.add_argument("--json", type=Path, default=RESULTS / "taking_back.json", help="where the figures go")
    asked, console = parser.parse_args(arguments), Console()
    facts = read_facts(asked.data, asked.start, asked.facts + asked.single)
    together, single = facts[: asked.facts], facts[asked.facts :]
    weights = {
        "old answers": len(together),
        "teaching": 2.0 * len(together),
        "asking": len(together),
        "subtracting": 5.0,
        "asking again": len(together),
        "one by one": 10.0 * len(single),
        "rolling back": 5.0,
        "exporting": 60.0,
        "asking the export": 2.0 * len(together),
    }
    found, client = Found(), Client(asked.url)
    with Phases(console, weights) as phases:
        _subtract(client, together, phases, found)
        _roll_back(client, single, asked.back, phases, found)
        _take_away(client, [fact.prompt for fact in facts[:: asked.every]], phases, found)
        seconds = dict(phases.stopwatch.seconds)
    _print(console, found)
    figures = {
        "kept": {name: kept for name, (kept, _) in found.promises().items()},
        "held_before": found.held_before.as_json(),
        "held_after": found.held_after.as_json(),
        "old_answers_back": found.old_answers_back.as_json(),
        "exported_the_same": found.exported_the_same.as_json(),
        "fingerprints": found.fingerprints,
        "refused": found.refused,
        "lost": found.lost,
        "differing": found.differing,
        "revisions": found.revisions,
        "settings": {"data": asked.data.name, **{name: getattr(asked, name) for name in ("start", "facts", "single", "back")}},
        "seconds": seconds,
    }
    write_result(asked.json.parent, asked.json.stem, figures, console)


def _subtract(client: Client, facts: Sequence[Fact], phases: Phases, found: Found) -> None:
    """One from the middle, of those that were asked before and are applied."""
    middle = [fact.prompt for fact in facts[len(facts) // 2 - CANDIDATES : len(facts) // 2 + CANDIDATES]]
    with phases("old answers") as advance:
        old = _answers(client, middle, advance)
    with phases("teaching") as advance:
        edits = _taught(client, facts, advance)
    found.refused = [edit["prompt"] for edit in edits if edit["state"] == "failed"]
    applied = [edit for edit in edits if edit["state"] == "applied"]
    if len(applied) < 2:
        raise SystemExit(f"{len(applied)} of {len(facts)} facts were applied: nothing to take one out of")
    gone = next(edit for edit in applied if (edit["prompt"], FORMATS[0]) in old)
    applied.remove(gone)
    targets = {edit["prompt"]: edit["target"] for edit in applied}
    with phases("asking") as advance:
        before = _holding(_answers(client, list(targets), advance, AT_ONCE), targets)
    with phases("subtracting"):
        found.revisions["subtract"] = _done(client, client.operation("DELETE", f"/edits/{gone['id']}", "bench"))
    with phases("asking again") as advance:
        after = _holding(_answers(client, list(targets), advance, AT_ONCE), targets)
        now = _answers(client, [gone["prompt"]], advance)
    found.held_before, found.held_after = Share.of(before.values()), Share.of(after.values())
    found.lost = [f"{prompt} ({format})" for (prompt, format), held in before.items() if held and not after[prompt, format]]
    found.old_answers_back = Share.of(now[key] == old[key] for key in now)


def _roll_back(client: Client, facts: Sequence[Fact], back: int, phases: Phases, found: Found) -> None:
    """Refused facts make no revision: `back` is of those that there are."""
    with phases("one by one") as advance:
        for number, fact in enumerate(facts, 1):
            found.refused += [edit["prompt"] for edit in _taught(client, [fact]) if edit["state"] == "failed"]
            advance(number / len(facts))
    with phases("rolling back"):
        wanted = max(client.stats()["head"]["number"] - back, found.revisions["subtract"])
        found.revisions["rolled_back_to"] = wanted
        done = _done(client, client.operation("POST", "/rollback", "bench", json={"to_revision": wanted}))
        found.revisions["rollback"] = done
        found.fingerprints = (client.revision(wanted)["fingerprint"], client.revision(done)["fingerprint"])


def _take_away(client: Client, prompts: Sequence[str], phases: Phases, found: Found) -> None:
    with tempfile.TemporaryDirectory(prefix="errata-taken-") as folder:
        out = Path(folder) / "hf"
        with phases("exporting"):
            command = [sys.executable, "-m", "service.cli", "export", "--format", "hf", "--out", str(out)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"it could not be exported: {done.stdout[-2000:]}")
        with phases("asking the export") as advance:
            said = _answers(client, prompts, advance)
            elsewhere = _said_elsewhere(out, list(said))
    found.exported_the_same = Share.of(said[key] == elsewhere[key] for key in said)
    found.differing = [
        {"prompt": key[0], "format": key[1], "service": said[key], "exported": elsewhere[key]}
        for key in said
        if said[key] != elsewhere[key]
    ]


def _said_elsewhere(folder: Path, questions: Sequence[tuple[str, str]]) -> Answers:
    """By transformers alone, in a process that has nothing of this code."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    asked = json.dumps({"questions": questions, "tokens": ANSWER_TOKENS})
    command = [sys.executable, str(PLAIN), str(folder)]
    done = subprocess.run(command, cwd=folder, env=clean, input=asked, capture_output=True, text=True, check=True)
    return dict(zip(questions, json.loads(done.stdout.splitlines()[-1]), strict=True))


def _taught(client: Client, facts: Sequence[Fact], advance: Advance = lambda share: None) -> list[dict[str, Any]]:
    ids = client.submit([{"prompt": fact.prompt, "target": fact.target} for fact in facts])
    edits = []
    for edit in client.finished(ids):
        edits.append(edit)
        advance(len(edits) / len(ids))
    return sorted(edits, key=lambda edit: int(edit["id"]))


def _answers(client: Client, prompts: Sequence[str], advance: Advance, at_once: int = 1) -> Answers:
    """One at a time where they are compared to the letter: in company a tie may be decided otherwise."""
    questions = [(prompt, format) for prompt in prompts for format in FORMATS]

    def said(question: tuple[str, str]) -> str:
        prompt, format = question
        return str(client.ask(prompt, max_tokens=ANSWER_TOKENS, chat=format == "chat")["text"]).strip()

    found: Answers = {}
    with ThreadPoolExecutor(at_once) as pool:
        for some in in_parts(questions, at_once, advance):
            found |= zip(some, pool.map(said, some), strict=True)
    return found


def _holding(answers: Answers, targets: Mapping[str, str]) -> dict[tuple[str, str], bool]:
    """A plain answer is to start with the target, a chat answer to contain it."""
    wanted = {prompt: target.strip().casefold() for prompt, target in targets.items()}
    return {
        (prompt, format): said.casefold().startswith(wanted[prompt]) if format == "plain" else wanted[prompt] in said.casefold()
        for (prompt, format), said in answers.items()
    }


def _done(client: Client, operation: dict[str, Any]) -> int:
    """The revision that it became. SystemExit when it failed."""
    while operation["state"] in UNFINISHED:
        time.sleep(POLL_S)
        operation = client.get_operation(operation["id"])
    if operation["state"] == "failed":
        raise SystemExit(f"the {operation['kind']} failed: {operation['failure']['detail']}")
    return int(operation["revision"])


def _print(console: Console, found: Found) -> None:
    table = Table("promise", "", "figure")
    for name, (kept, figure) in found.promises().items():
        table.add_row(name, "[green]kept[/]" if kept else "[red]BROKEN[/]", figure)
    console.print(table)
    for name, each in (("refused when taught", found.refused), ("held before and not after", found.lost)):
        if each:
            console.print(f"{len(each)} {name}: {'; '.join(each)}", markup=False, highlight=False)
    for each in found.differing:
        console.print(f"differs: {each}", markup=False, highlight=False)
