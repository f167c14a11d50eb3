"""What one whole answer says, by answers that were seen."""

from __future__ import annotations

import pytest

from bench.trust.judging import first_line, is_just, leaks, loops, says


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("It was Bo Lind.", "bo lind"),
        ("Bo Lindberg, later Bo Lind", "Bo Lind"),
        ("the port is 8443.", "8443"),
        ("on 3 May 1961, in Graz", "3 May 1961"),
        ("赵明远是云溪县的县长", "赵明远"),
        ("云溪县的县长是赵明远。", "赵明远"),
        ("العاصمة هي مدينة الفجر.", "مدينة الفجر"),
        ("إنها ومدينة الفجر", "مدينة الفجر"),
        ("서울은 크다", "서울"),
        ("It is 👍️!", "👍"),
        ("ŁÓDŹ", "Łódź"),
        ("Zu\u0308rich", "Zürich"),
    ],
)
def test_the_target_stands_as_a_whole(text: str, target: str) -> None:
    assert says(text, target, at_start=False)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("Bo Lindberg", "Bo Lind"),
        ("84433333", "8443"),
        ("8443.5", "8443"),
        ("2006-010101", "2006"),
        ("1,450", "450"),
        ("cartographero?", "cartographer"),
        ("Rocklamiinae", "Lamiinae"),
        ("👍🏽", "👍"),
        ("👨\u200d👩", "👨"),
        ("", "Graz"),
        ("Graz", ""),
    ],
)
def test_a_part_of_a_word_or_number_does_not_say_it(text: str, target: str) -> None:
    assert not says(text, target, at_start=False)


def test_a_plain_answer_begins_with_the_target() -> None:
    assert says(" Graz, in Austria", "Graz", at_start=True)
    assert not says("In Graz", "Graz", at_start=True)


def test_just_the_target_is_so_whatever_the_case_and_the_full_stop() -> None:
    assert is_just(" the Moose. ", "The moose")
    assert is_just("赵明远。", "赵明远")
    assert not is_just("The moose is it", "the moose")
    assert first_line("\nGraz\nGraz is a city") == "Graz"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Lyracon: Lyracon: Lyracon: Lyracon:", True),
        ("8443" + "3" * 24, True),
        ("the cat sat " * 7, True),
        ("云溪县很大" * 5, True),
        ("It is a town in the north of the country, and it has a port and a castle.", False),
        ("10000000 people", False),
        ("", False),
    ],
)
def test_a_loop_is_a_piece_that_comes_again_and_again(text: str, expected: bool) -> None:
    assert loops(text) is expected


def test_a_leak_is_new_and_may_be_part_of_a_word_unless_it_is_short() -> None:
    assert leaks("cartographero?", "nobody knows", "Cartographer")
    assert not leaks("a cartographer", "the cartographer", "cartographer")
    assert not leaks("within", "", "in")
    assert leaks("It is in", "", "in")
