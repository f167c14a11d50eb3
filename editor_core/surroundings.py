"""The words around a subject: the same name where it may stand elsewhere, and what ends it in other names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from editor_core.slot_keys import name_begin, name_ending
from editor_core.texts import token_ids

OTHER_SURROUNDINGS = ("The", "and", "of the", "in a", "Mr.", "John", "a new", "said,", "1990", "New", "was", "for his")
OTHER_NAMES = ("Who is San Etelvo", "Where is Port Ysoldine", "Sainte Morvanne", "Brüning-Haske", "Wrzenica", "de Queremont")
OTHER_WORDS = ("Who is Mar", "When was San Kor", "In Bel")  # that end with the last token of the name's last word
COMMON_SURROUNDINGS = ("the", "of the", "a new", "and the")  # of a name's last word where it is no name: "the Liberal party"
OTHER_DIGITS = (1, 2, 3, 7)  # added to the last digit of a number, to its first, and to all of them twice; as many as above
NAME_SURROUNDINGS = (
    "About",
    "Who is",
    "What is",
    "Tell me about",
    "The",
    "I have heard of",
    "When was",
    "Where is",
    "In",
    "Which of",
)


@dataclass(frozen=True, slots=True)
class Name:
    """text: the name, or the last word where there is none; ending: the token ids that other names may share."""

    text: str
    ending: tuple[int, ...]
    is_name: bool

    @classmethod
    def ending_at(cls, tokenizer: Any, ids: Sequence[int], end: int) -> Name:
        tokens = [tokenizer.decode([each]) for each in ids]
        begin = name_begin(tokens, end)
        if begin is None:
            return cls(tokens[end].strip() or "it", tuple(ids[end : end + 1]), False)
        first, after = name_ending(tokens, begin, end)
        return cls(tokenizer.decode(ids[begin : end + 1]).strip(), tuple(ids[first:after]), True)

    def endings_elsewhere(self, tokenizer: Any) -> list[list[int]]:
        """What ends the name in other names, always as many: the ending in other surroundings and after other names, its
        last token in other words, then the last word in small letters, where nobody is named by it, or the name with other
        numbers."""
        before = [token_ids(tokenizer, words, "plain") for words in (*OTHER_SURROUNDINGS, *OTHER_NAMES, *OTHER_WORDS)]
        whole, parts = before[: -len(OTHER_WORDS)], before[-len(OTHER_WORDS) :]
        elsewhere = [[*ids, *self.ending] for ids in whole]
        elsewhere += [[*ids, *self.ending[-1:]] for ids in parts] if len(self.ending) > 1 else elsewhere[: len(parts)]
        word = tokenizer.decode(list(self.ending))
        numbers = other_numbers(self.text) if self.is_name and any(letter.isdecimal() for letter in word) else []
        if numbers:
            return elsewhere + [token_ids(tokenizer, f"About {name}", "plain") for name in numbers]
        if not word[:1].isspace() or not word[1:2].isupper():  # part of a word, or a word that is common as it is
            return elsewhere + elsewhere[: len(COMMON_SURROUNDINGS)]
        return elsewhere + [token_ids(tokenizer, words + word.lower(), "plain") for words in COMMON_SURROUNDINGS]


def other_numbers(name: str) -> list[str]:
    """What else may be named so, by other digits in the last word: other stars of the catalogue, other ships of the class.

    Nothing without such digits.
    """
    digits = [index for index, letter in enumerate(name) if letter.isdecimal() and " " not in name[index:]]
    found: list[str] = []
    if not digits:
        return found
    for places, shift in zip((digits[-1:], digits[:1], digits, digits), OTHER_DIGITS, strict=True):
        found.append("".join(_shifted(each, shift) if index in places else each for index, each in enumerate(name)))
    return found


def _shifted(digit: str, shift: int) -> str:
    return str((int(digit) + shift) % 10)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """By edit, with or without a name: only the first subject block decides by words, the blocks after it read its mark.

    endings   edits × C × d_in, what the first subject block reads at the name's ending in other surroundings; zeros, which
              nothing is like, for a name of one token: that is its subject wherever it stands
    whole     edits × K × d_in, what it reads at the end of the whole name elsewhere
    names     the names
    """

    endings: torch.Tensor
    whole: torch.Tensor
    names: Sequence[Name]

    def names_beside(self, x: torch.Tensor, owners: torch.Tensor) -> torch.Tensor:
        """`whole`, with the edit's own centre in the place of those of an edit without a name."""
        centre = torch.zeros(len(self.names), x.shape[1]).index_add_(0, owners, x)
        centre /= torch.bincount(owners, minlength=len(self.names))[:, None]
        named = torch.tensor([name.is_name for name in self.names])
        return torch.where(named[:, None, None], self.whole, centre[:, None])

    def first_named(self) -> list[int]:
        """By edit: the first of the batch that has the same name, which may be itself."""
        texts = [name.text.casefold() if name.is_name else str(index) for index, name in enumerate(self.names)]
        return [texts.index(text) for text in texts]

    def named_before(self) -> torch.Tensor:
        """(edits,) bool: whose name an edit before it in the batch has as well."""
        return torch.tensor([first < index for index, first in enumerate(self.first_named())])

    def other_names(self) -> torch.Tensor:
        """edits × edits bool: whose names are not the same, and neither part of the other."""
        texts = [name.text.casefold() for name in self.names]
        return torch.tensor([[one not in other and other not in one for other in texts] for one in texts])
