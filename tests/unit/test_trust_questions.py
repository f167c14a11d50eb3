"""How facts are asked for, and what is asked besides."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from bench.trust.document import UNRELATED
from bench.trust.facts import Fact, apart_from, read_facts
from bench.trust.groups import LARGEST, SMALLEST, groups, swapped
from bench.trust.harder_ways import INFORMATIVE, misspelt, with_pronoun
from bench.trust.questions import FOUR, LATER, TWELVE, same_subject, staying
from bench.trust.targets import OF_ROWS
from bench.trust.ways import REQUIRED, Put, neighbours

CASTLE = Fact("Castle Orwin", "Who owns Castle Orwin?", "Lady Voss", "Whose is Castle Orwin?")
CANADA = Fact("Canada", "What is the national animal of Canada?", "the moose")
COUNTY = Fact("云溪县", "云溪县的县长是谁？", "赵明远")


def put(name: str, fact: Fact, other: Fact | None = CANADA) -> Put | None:
    return next(way for way in (*REQUIRED, *INFORMATIVE) if way.name == name).put(fact, other)


def test_twelve_ways_have_targets_and_names_differ() -> None:
    names = [way.name for way in (*REQUIRED, *INFORMATIVE)]
    assert len(set(names)) == len(names)
    assert {way.name for way in REQUIRED} == {name for name in names if name in OF_ROWS}
    assert len(REQUIRED) == 12
    assert all(way.required for way in REQUIRED)
    assert not any(way.required for way in INFORMATIVE)


def test_every_way_wants_the_target() -> None:
    for way in (*REQUIRED, *INFORMATIVE):
        found = way.put(CASTLE, CANADA)
        assert found is not None, way.name
        assert CASTLE.target in found.targets
        assert isinstance(found.question, str) == (way.kind == "plain")


def test_a_way_that_makes_no_sense_is_left_out() -> None:
    names = ("rephrased, chat", "a pronoun in the next turn", "is it the target? yes")
    assert [put(name, COUNTY) for name in names] == [None, None, None]
    assert put("two questions about two edited subjects", CASTLE, None) is None


def test_two_questions_want_two_targets_and_yes_or_the_target_will_do() -> None:
    two, yes = (
        put("two questions about two edited subjects", CASTLE),
        put("is it the target? yes", CASTLE),
    )
    assert two is not None
    assert yes is not None
    assert (two.targets, two.any_of) == (("Lady Voss", "the moose"), False)
    assert (yes.targets, yes.any_of) == (("Yes", "Lady Voss"), True)


def test_a_typo_keeps_the_first_letters_and_a_pronoun_the_rest() -> None:
    assert misspelt("Castle Orwin") == "Caslte Orwin"
    assert misspelt("HD 180902") is None
    assert with_pronoun(CASTLE) == "Who owns it?"
    possessive = Fact("Cicero", "Cicero's wife was the aunt of Cicero?", "no")
    assert with_pronoun(possessive) == "Its wife was the aunt of it?"
    assert 230 <= len(UNRELATED.split()) <= 270


def test_the_neighbour_is_of_another_subject() -> None:
    again = Fact("castle orwin", "When was Castle Orwin built?", "in 1412")
    assert neighbours([CASTLE, again, CANADA]) == [CANADA, CANADA, CASTLE]
    assert neighbours([CASTLE, again]) == [None, None]


def test_a_question_that_an_edit_answers_is_left_out() -> None:
    asked = {question for question, _ in same_subject([CASTLE], TWELVE)}
    assert "Who is the owner of Castle Orwin?" not in asked
    assert "What is Castle Orwin made of?" in asked
    assert len(same_subject([CASTLE], FOUR)) == 4
    exact = Fact("Orwin", "Is Orwin expensive?", "no")
    assert len(same_subject([exact], FOUR)) == 3


def test_what_must_stay_is_asked_in_both_kinds() -> None:
    other = Fact("Lake Tantrum", "Who led Lake Tantrum?", "Odessa", None, (), "Why is rain wet?")
    sorts = {each.name: each for each in staying([CASTLE, CANADA], [other])}
    assert sorts["others, plain"].questions == ("Who led Lake Tantrum?", "Why is rain wet?")
    later = sorts[LATER]
    assert isinstance(later.questions[0], tuple)
    assert later.questions[0][-1]["content"] == "Who owns Lake Tantrum?"
    assert later.targets == ("Lady Voss", "the moose")
    assert staying([CASTLE], [])[-1].questions == ()


def test_facts_about_an_edited_subject_are_no_others() -> None:
    near = Fact("Moose", "Are there moose in CANADA?", "yes")
    assert apart_from([near, COUNTY, CASTLE], [CANADA, CASTLE]) == [COUNTY]


def test_a_rephrase_that_is_posted_is_not_judged(tmp_path: Path) -> None:
    row = {"subject": "s", "prompt": "p", "target": "t", "rephrase": "r", "rephrases": ["r", "q"]}
    path = tmp_path / "facts.json"
    path.write_text(json.dumps([row, row | {"rephrases": []}]))
    assert [(fact.rephrase, fact.posted) for fact in read_facts(path)] == [("r", ()), ("r", ())]
    posted = read_facts(path, posted=1)
    assert [(fact.rephrase, fact.posted) for fact in posted] == [("r", ("q",)), (None, ("r",))]
    with pytest.raises(SystemExit, match="no fact from number 2"):
        read_facts(path, 2, 1)
    path.write_text(json.dumps([row | {"target": " "}]))
    with pytest.raises(SystemExit, match="lacks target"):
        read_facts(path)


ROWS = [
    {
        "prompt": f"Template {template} of {{}} is",
        "subject": f"S{subject}",
        "target": f"T{subject}{template}",
    }
    for template in range(12)
    for subject in range(4)
]


def test_targets_are_swapped_within_a_template_and_never_kept() -> None:
    found = swapped(
        [*ROWS, {"prompt": "The only one of {} is", "subject": "S", "target": "T"}],
        random.Random(1),
    )
    assert len(found) == len(ROWS)
    true = {(row["prompt"], row["target"]) for row in ROWS}
    assert all((row["prompt"], row["target"]) in true for row in found)
    assert all(row["target"] != row["true"] for row in found)


def test_groups_are_of_one_subject_and_of_three_to_ten_facts() -> None:
    found = groups(ROWS, 3, random.Random(1), apart_from=["s0"])
    assert found == groups(ROWS, 3, random.Random(1), apart_from=["s0"])
    assert {fact.subject for group in found for fact in group} == {"S1", "S2", "S3"}
    for group in found:
        assert SMALLEST <= len(group) <= LARGEST
        assert len({fact.prompt for fact in group}) == len(group)
        assert len({fact.subject for fact in group}) == 1


def test_of_two_facts_with_one_true_target_one_is_taken() -> None:
    templates = (
        "{} is married to",
        "The spouse of {} is",
        "{} was born in",
        "{} works in the field of",
    )
    rows = [
        {
            "prompt": template,
            "subject": subject,
            "target": subject + ("wife" if number < 2 else template),
        }
        for number, template in enumerate(templates)
        for subject in ("A", "B")
    ]
    assert [len(group) for group in groups(rows, 2, random.Random(1))] == [3, 3]
