"""From a model's answers to a table, with a model that is made up."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from bench.trust import asking, targets
from bench.trust.asking import Answer, Http, InProcess, Messages, Question, retry_after_s
from bench.trust.editing import Batches, Edited, posting_to
from bench.trust.facts import Fact
from bench.trust.measuring import Measured, Plan, measure
from bench.trust.own_service import environment_of
from bench.trust.picture import draw
from bench.trust.report import report, write_report
from bench.trust.table import markdown

FACTS = [
    Fact("Castle Orwin", "Who owns Castle Orwin?", "Lady Voss", "Whose is Castle Orwin?"),
    Fact(
        "Canada",
        "What is the national animal of Canada?",
        "the moose",
        "Which animal is it in Canada?",
    ),
]
OTHERS = [Fact("Lake Tantrum", "Who led Lake Tantrum?", "Odessa", None, (), "Why is rain wet?")]
GROUP = tuple(Fact("Ilse", f"Fact {number} of Ilse is", f"value {number}") for number in range(3))


class Model:
    """Knows facts once they are posted, by their exact prompts; says a canned text otherwise."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.asked = 0

    def answers(self, questions: list[Question], max_tokens: int) -> list[Answer]:
        self.asked += len(questions)
        return [self._answer(question) for question in questions]

    def post(self, batches: Batches, advance: Any) -> Edited:
        for batch in batches:
            self.known |= {edit["prompt"]: edit["target"] for edit in batch}
        done = {"state": "applied", "failure": None}
        edits = [{**edit, **done} for batch in batches for edit in batch]
        return Edited(tuple(edits), tuple(1.0 for _ in batches))

    def _answer(self, question: Question) -> Answer:
        text = question if isinstance(question, str) else question[-1]["content"]
        if self.known and text == "Is Canada expensive?":
            return Answer("the mooseo", "stop")
        return Answer(self.known.get(text, "I do not know"), "stop")


@pytest.fixture
def measured() -> Measured:
    model = Model()
    plan = Plan(FACTS, OTHERS, [GROUP])
    return measure(Console(quiet=True), InProcess(model), model.post, plan)


def shares(measured: Measured) -> dict[str, float]:
    return {row.name: row.share.value for row in measured.rows if row.judged}


def test_every_row_has_its_share(measured: Measured) -> None:
    found = shares(measured)
    assert (found["prompt, plain"], found["prompt, chat"], found[targets.JUST]) == (1.0, 1.0, 1.0)
    assert found["with a system prompt"] == 1.0
    assert found["rephrased, chat"] == 0.0
    assert found["unchanged: others, chat"] == 1.0
    assert found["unchanged: same subject (4 questions), plain"] == 7 / 8
    assert found["target leaks into: same subject (4 questions), chat"] == 1 / 8
    assert found["target leaks into: same subject (12 questions), chat"] == 0.0
    assert found[targets.TELL_AFTER] == 0.0
    assert found[targets.GROUPS_JUST] == 1.0
    assert found[targets.FAILED] == 0.0


def test_the_table_says_what_is_missed(measured: Measured) -> None:
    text = markdown("2 edits", measured)
    assert "| prompt, plain | 1.00 | 0.34 – 1.00 | 2 | ≥ 0.98 | yes |" in text
    assert "| rephrased, chat | 0.00 | 0.00 – 0.66 | 2 | ≥ 0.90 | **no** |" in text
    assert "rephrased, chat;" in text.rpartition("targets are met; not:")[2]
    assert "- edits of groups: 3 applied; 1 requests" in text


def test_the_report_has_every_wrong_answer_in_full(measured: Measured, tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    write_report(path, report(measured, {"mode": "made up"}, seed=3))
    found = json.loads(path.read_text(encoding="utf-8"))
    changed = found["wrong"]["unchanged: same subject (4 questions), plain"]
    assert [(each["question"], each["before"], each["answer"]) for each in changed] == [
        ("Is Canada expensive?", "I do not know", "the mooseo"),
    ]
    assert found["wrong"]["rephrased, plain"][0]["targets"] == ["Lady Voss"]
    assert len(found["samples"]["unchanged: same subject (12 questions), chat"]) == 10
    assert found["rows"]["prompt, plain"]["met"] is True


def test_a_rephrase_that_was_posted_raises_the_target() -> None:
    model, fact = Model(), Fact("A", "Who is A?", "B", "Who may A be?", ("Who is this A?",))
    rows = measure(Console(quiet=True), InProcess(model), model.post, Plan([fact], OTHERS)).rows
    row = next(row for row in rows if row.name == "rephrased, plain")
    assert row.target == targets.REPHRASED_WITH_ONE


def test_nothing_is_edited_without_a_way_to_post() -> None:
    found = measure(Console(quiet=True), InProcess(Model()), None, Plan(FACTS, [], [GROUP]))
    assert found.edited == Edited()
    assert shares(found)["prompt, chat"] == 0.0
    assert "unchanged: others, plain" not in shares(found)


def test_a_question_that_comes_twice_is_asked_once() -> None:
    model = Model()
    chat: Messages = ({"role": "user", "content": "a"},)
    answers = InProcess(model, at_once=2).every(["a", "b", "a", chat, chat], 8, lambda share: None)
    assert (len(answers), model.asked) == (5, 3)


def served(respond: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Http, list[float]]:
    waited: list[float] = []
    monkeypatch.setattr(asking.time, "sleep", waited.append)
    asker = Http("http://errata")
    asker._http = httpx.Client(base_url="http://errata", transport=httpx.MockTransport(respond))
    return asker, waited


def test_a_busy_service_is_asked_again_when_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    replies = [
        httpx.Response(429, headers={"Retry-After": "7"}),
        httpx.Response(503),
        httpx.Response(200, json={"choices": [{"text": " Graz", "finish_reason": "stop"}]}),
    ]
    asker, waited = served(lambda request: replies.pop(0), monkeypatch)
    assert asker.plain("Where?", 8) == Answer(" Graz", "stop")
    assert waited == [7.0, 2.0]
    assert retry_after_s("Wed, 21 Oct 2026 07:28:00 GMT") == 2.0


def test_an_answer_that_failed_is_kept_and_both_kinds_are_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if request.url.path == "/v1/completions":
            return httpx.Response(400, text="too long")
        message = {"role": "assistant", "content": body["messages"][0]["content"].upper()}
        choice = {"message": message, "finish_reason": "length"}
        return httpx.Response(200, json={"choices": [choice]})

    asker, _ = served(respond, monkeypatch)
    questions: list[Question] = ["a", ({"role": "user", "content": "b"},)]
    first, second = asker.every(questions, 8, lambda share: None)
    assert (first.finish_reason, first.error) == ("failed", "HTTP 400: too long")
    assert second == Answer("B", "length")


def test_batches_are_posted_one_after_the_other_and_failures_have_reasons() -> None:
    class Client:
        posted = 0

        def submit(self, batch: Sequence[dict[str, Any]]) -> list[int]:
            self.batch, self.posted = batch, self.posted + 1
            return list(range(len(batch)))

        def finished(self, ids: list[int]) -> list[dict[str, Any]]:
            failure = {"code": "does_not_hold", "detail": "it says otherwise"}
            return [{**edit, "state": "failed", "failure": failure} for edit in self.batch]

    heard: list[float] = []
    client: Any = Client()
    edit = {"prompt": "p", "target": "t"}
    found = posting_to(client)([[edit, edit], [edit]], heard.append)
    assert (client.posted, len(found.batch_seconds), heard[-1]) == (2, 2, 1.0)
    assert found.states == {"failed": 3}
    assert found.failures[0]["reason"]["code"] == "does_not_hold"


def test_its_own_service_shares_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere")
    monkeypatch.delenv("ERRATA_EDIT_MODE", raising=False)
    found = environment_of(tmp_path, 1234, None)
    assert "DATABASE_URL" not in found
    assert "ERRATA_EDIT_MODE" not in found
    assert (found["ERRATA_API_PORT"], found["ERRATA_DATA_DIR"]) == ("1234", str(tmp_path / "data"))
    assert environment_of(tmp_path, 1234, "paper")["ERRATA_EDIT_MODE"] == "paper"


def test_the_picture_has_a_mark_a_threshold() -> None:
    triples = [(0.3, 0.8, 1.0), (0.1, 0.97, 0.7), (0.2, 0.9, 0.9)]
    root = ElementTree.fromstring(draw(triples, "A & B"))
    circles = root.findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == 3
    across = [float(each.attrib["cx"]) for each in circles]
    assert across == sorted(across, reverse=True)
    with pytest.raises(ValueError, match="nothing to draw"):
        draw([])
