"""What stands around a subject: which names are the same, and that a nameless subject brings nothing of its own."""

import torch

from editor_core.surroundings import OTHER_NAMES, OTHER_WORDS, Name, Surroundings, other_numbers


class Words:
    """A tokenizer whose tokens are words with the space before them."""

    bos_token_id = None

    def decode(self, ids: list[int]) -> str:
        return "".join(f" {'w' if number < 10 else 'W'}{chr(ord('a') + number)}" for number in ids)

    def __call__(self, text: str, **options: object) -> dict[str, list[int]]:
        return {"input_ids": [ord(word[1]) - ord("a") if word[:1] in "wW" and len(word) == 2 else 5 for word in text.split()]}


def surroundings(*texts: str) -> Surroundings:
    names = [Name(text, (), bool(text[:1].isupper())) for text in texts]
    return Surroundings(torch.zeros(len(names), 2, 3), torch.ones(len(names), 4, 3), names)


def test_names_are_apart_unless_one_is_part_of_the_other() -> None:
    apart = surroundings("Omar Bravo", "Rio Bravo", "omar bravo").other_names()
    assert apart.tolist() == [[False, True, False], [True, False, True], [False, True, False]]


def test_a_subject_without_a_name_is_looked_for_as_it_was_read() -> None:
    x = torch.tensor([[2.0, 0.0, 0.0], [4.0, 0.0, 0.0], [0.0, 5.0, 0.0]])
    beside = surroundings("Omar Bravo", "river").names_beside(x, torch.tensor([0, 0, 1]))
    assert beside[0].tolist() == [[1.0, 1.0, 1.0]] * 4
    assert beside[1].tolist() == [[0.0, 5.0, 0.0]] * 4


def test_a_names_last_word_is_what_others_may_share() -> None:
    name = Name.ending_at(Words(), (1, 2, 11, 12, 3), 3)
    assert name == Name("Wl Wm", (12,), True)
    assert not Name.ending_at(Words(), (1, 2, 11, 12, 3), 4).is_name


def test_what_ends_a_name_is_looked_at_after_other_names_and_its_last_token_in_other_words() -> None:
    one, two = Name("Wl Wm", (12,), True), Name("Wl Wmx", (12, 13), True)
    assert len(one.endings_elsewhere(Words())) == len(two.endings_elsewhere(Words()))
    ends = [tuple(each[-2:]) for each in two.endings_elsewhere(Words())]
    assert ends.count((12, 13)) >= len(OTHER_NAMES)
    assert sum(last == 13 and before != 12 for before, last in ends) == len(OTHER_WORDS)


def test_a_names_last_word_is_looked_at_in_small_letters_too() -> None:
    name = Name.ending_at(Words(), (1, 2, 11, 12, 3), 3)
    *_, common = name.endings_elsewhere(Words())
    assert common == Words()("and the wm")["input_ids"]
    small = Name("wd", (3,), False)
    assert len(small.endings_elsewhere(Words())) == len(name.endings_elsewhere(Words()))


def test_a_name_that_ends_with_a_number_is_kept_from_those_of_other_numbers() -> None:
    assert other_numbers("NGC 6604") == ["NGC 6605", "NGC 8604", "NGC 9937", "NGC 3371"]
    assert other_numbers("37 Geminorum 2") == [f"37 Geminorum {digit}" for digit in (3, 4, 5, 9)]
    assert other_numbers("Area 51²") == ["Area 52²", "Area 71²", "Area 84²", "Area 28²"]
    assert other_numbers("Mark² Anthony") == []
