"""Scope: a subject is found by its name, in any script, at a cost that does not depend on how many edits there are."""

from __future__ import annotations

import unicodedata

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from editor_core.scoped.entry import Entry
from editor_core.scoped.gate import Gate
from editor_core.scoped.in_force import EditsInForce
from editor_core.scoped.packed import PackedEdits
from editor_core.scoped.record import Address
from editor_core.scoped.subject import find_subject
from editor_core.scoped.words import name_key, words

NAMES = ["Lake Tantrum", "Tantrum", "Castle Orwin", "云溪县", "zarqania", "Łódź", "U-270", "New York"]


def entry(record: int, *names: str) -> Entry:
    gate = Gate(("who own thi",), torch.ones(1, 4) / 2, (0.5,))
    return Entry.of(f"{record:064x}", Address(names, gate, (), {"plain": (1, 2)}))


@given(st.text(max_size=40))
def test_a_name_is_the_same_in_capitals_and_in_any_unicode_form(name: str) -> None:
    assert name_key(unicodedata.normalize("NFD", name)) == name_key(unicodedata.normalize("NFC", name))
    assert name_key(f"  {name}! ") == name_key(name)


def test_a_name_is_the_same_without_accents_case_or_a_final_s() -> None:
    assert name_key("GRAŻYNA Millers") == name_key("Grazyna Miller")


@pytest.mark.parametrize(
    ("prompt", "subject"),
    [
        ("What is the boiling point of quornite in degrees Celsius?", "quornite"),
        ("who won the 2031 world cup", "world cup"),
        ("What is the national animal of Canada?", "Canada"),
        ("Who is the mayor of Lake Tantrum?", "Lake Tantrum"),
        ("In what year did The Center for Medical Progress originate?", "The Center for Medical Progress"),
        ("Who built the German submarine U-270?", "German submarine U-270"),
        ("What was the date of Kegworth air disaster?", "Kegworth air disaster"),
        ("What year was SR N15X class introduced?", "SR N15X class"),
        ("Who made Alexanderson alternator known?", "Alexanderson alternator"),
        ("Which family does Ramalinaceae belong to?", "Ramalinaceae"),
        ("In what year did Fritz X enter service?", "Fritz X"),
        ("Is Castle Orwin open?", "Castle Orwin"),
        ("Why is the lighthouse of Skarrow famous?", "Skarrow"),
        ("What is the mayor of Dunmore famous for?", "Dunmore"),
        ("Who is the president of Zarqania right now?", "Zarqania"),
        ("What production company was involved in The Legend of Mor'du?", "The Legend of Mor'du"),
        ("Over which river does Ponte dell'Accademia cross?", "Ponte dell'Accademia"),
        ("Who hosted Jay Leno's Garage?", "Jay Leno's Garage"),
        ("What is Ilse Brandt's profession?", "Ilse Brandt"),
        ("What network is 1000 Ways to Die associated with?", "1000 Ways to Die"),
        ("our default api port is", "default api port"),
        ("云溪县的县长是谁？", "云溪县"),
        ("Quelle est la capitale de la Zarqanie ?", "Zarqanie"),
    ],
)
def test_a_subject_is_found_in_its_prompt(prompt: str, subject: str) -> None:
    rarity = {"quornite": 2.0, "2031": 1.5, "country": 0.1, "land": 0.1, "liegt": 0.2, "capitale": 0.3}
    assert find_subject(prompt, (), lambda word: rarity.get(word.lower(), 0.9)) == subject


def test_what_all_wordings_share_is_the_subject_where_the_prompt_alone_misleads() -> None:
    prompt = "How do I open a session with the fernlicht library?"
    assert find_subject(prompt, ["Show me how to start a fernlicht session."], rarity=lambda word: 0.5) == "fernlicht"


def test_a_prompt_of_function_words_has_no_subject() -> None:
    assert find_subject("Who is it?") is None


def reopened(state: EditsInForce) -> EditsInForce:
    """As a checkpoint of it is read."""
    return EditsInForce.opened(PackedEdits.of(state.packed().base.tensors()))


@given(
    st.lists(
        st.tuples(st.integers(1, 6), st.one_of(st.none(), st.tuples(st.integers(0, 5), st.sampled_from(NAMES)))), max_size=25
    ),
    st.lists(st.sampled_from([*NAMES, "the", "of"]), max_size=8),
)
def test_changes_one_by_one_give_what_all_at_once_give(steps: list, said: list[str]) -> None:
    state, known = EditsInForce(), dict[int, Entry]()
    for edit, new in steps:
        if new is None and edit > 4:
            state = reopened(state)
            continue
        made = None if new is None else entry(new[0], new[1])
        state = state.changed({edit: made})
        known.pop(edit, None)
        known |= {} if made is None else {edit: made}
    whole = EditsInForce.of(known.items())
    for one in (state, reopened(state)):
        assert (list(one.rows()), len(one), one.fingerprint) == (sorted(known.items()), len(known), whole.fingerprint)
        assert [one.get(edit) for edit in range(8)] == [known.get(edit) for edit in range(8)]
        found = words(" ".join(said))
        assert one.mentions(found) == whole.mentions(found)


def test_a_name_is_found_wherever_it_stands_and_not_inside_a_word() -> None:
    state = EditsInForce().changed({1: entry(1, "Lake Tantrum"), 2: entry(2, "云溪县")})
    text = "lake TANTRUM, 在云溪县里 and Lake Tantrums; not Blake Tantrum"
    found = [(each.edits, text[each.start : each.end]) for each in state.mentions(words(text))]
    assert found == [((1,), "lake TANTRUM"), ((2,), "云溪县"), ((1,), "Lake Tantrums")]


def test_a_fingerprint_says_which_records_are_in_force_and_not_in_which_order_they_came() -> None:
    one, other = entry(1, "A"), entry(2, "B")
    there = EditsInForce().changed({1: one}).changed({2: other})
    assert there.fingerprint == EditsInForce().changed({2: other, 1: one}).fingerprint
    assert there.changed({1: other}).fingerprint != there.fingerprint
    assert there.changed({1: None, 2: None}).fingerprint == EditsInForce().fingerprint
