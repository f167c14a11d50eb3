"""The gate: whether a question about an edit's subject asks what the edit answers.

One linear decision for each wording that was taught: the question's vector times the wording's, against a threshold. A question
that is worded as one taught opens the gate, one worded as an unrelated prompt of the edit never does, whatever the vectors say;
neither does one in which other numbers stand, or words that make it another question (`contrast.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from editor_core.scoped.contrast import contrasts, longer_names
from editor_core.scoped.question import NAMELESS
from editor_core.scoped.subject import function_words
from editor_core.scoped.words import name_key

Encode = Callable[[str], torch.Tensor]
THRESHOLD = 0.60  # cosine; how rephrased success trades against other questions: docs/measurements/gate.md
# Of a wording in a script that the encoder was not trained on: questions of few known words are near to each other there.
THRESHOLD_UNREAD = 0.82
MARGIN = 0.25  # of the gap between an unrelated prompt and the wording itself, which an opening question must be above
# Cosine from which two edits of one subject answer one question: so do 50 of 100 rephrases and 3 of 10,000 pairs of relations
SAME = 0.93
CERTAIN = 1.0
_NAMELESS_KEY = name_key(NAMELESS)
_DIRECTIONS = frozenset(
    ["from", "to", "before", "after", "not", "under", "over", "without", "by", "against", "with", "for", "than"]
)
_ASK_FOR_IT = frozenset(name_key(f"{NAMELESS} the our your my a an what whats is are was s tell me please give").split())


def question_key(question: str) -> str:
    """Equal for questions that are worded alike: without case, accents, punctuation."""
    return name_key(question)


def _is_read(question: str) -> bool:
    """Whether most letters are Latin: the encoder reads English, and languages written like it to some degree."""
    letters = [each for each in question if each.isalpha()]
    return 2 * sum(each < "\u0250" for each in letters) >= len(letters)


def _asks_for_itself(key: str) -> bool:
    """Whether nothing but the subject is in it, and words that ask for its value: "our {} is", "what is the {}?"."""
    return set(key.split()) <= _ASK_FOR_IT


def _numbers(key: str) -> frozenset[str]:
    return frozenset(word for word in key.split() if any(map(str.isdigit, word)))


def _asks_alike(one: str, other: str) -> bool:
    """Whether nothing that the words themselves say tells two questions apart that are near to each other.

    Numbers and words of direction must be the same ones; neither may say the other's words and more ("the deputy mayor" is not
    the mayor); the same words must come in the same order ("the mother of this", "this the mother of"), possessives aside.
    """
    telling = [[word for word in key.split() if word == _NAMELESS_KEY or word not in function_words()] for key in (one, other)]
    if not all(_is_read(" ".join(word for word in words if word != _NAMELESS_KEY)) for words in telling):
        return False
    fewer, more = sorted(map(set, telling), key=len)
    if fewer == more:
        is_alike = telling[0] == telling[1] or any(f"{_NAMELESS_KEY} s " in key for key in (one, other))
    else:
        is_alike = len(fewer) == 1 or not fewer < more
    return is_alike and _numbers(one) == _numbers(other) and _directions(one) == _directions(other)


def _directions(key: str) -> frozenset[str]:
    return _DIRECTIONS & {*key.split()}


@dataclass(frozen=True, slots=True)
class Gate:
    """Of one edit.

    questions   keys of the wordings taught, P
    vectors     P × width float32, of length 1
    thresholds  P floats
    shut        keys of questions that never open it
    """

    questions: tuple[str, ...]
    vectors: torch.Tensor
    thresholds: tuple[float, ...]
    shut: tuple[str, ...] = ()

    @classmethod
    def learn(cls, questions: Sequence[str], unrelated: Sequence[str], encode: Encode, threshold: float = THRESHOLD) -> Gate:
        """From nameless questions. Those worded alike count once; an unrelated one worded as one taught is left out."""
        taught = {question_key(each): each for each in questions}
        others = {key: each for each in unrelated if (key := question_key(each)) not in taught}
        vectors = torch.stack([encode(each) for each in taught.values()])
        usual = [
            threshold if _is_read(each.replace(NAMELESS, "")) else max(threshold, THRESHOLD_UNREAD) for each in taught.values()
        ]
        thresholds = torch.tensor(usual)
        if others:
            nearest = (vectors @ torch.stack([encode(each) for each in others.values()]).T).amax(1)
            thresholds = torch.maximum(thresholds, nearest + MARGIN * (1 - nearest))
        return cls(tuple(taught), vectors, tuple(thresholds.tolist()), tuple(others))

    def is_same_question(self, other: Gate) -> bool:
        """Whether another edit of the same subject answers what this one answers, in these words or in others.

        Not where a question of one is among the unrelated prompts of the other.
        """
        if {*self.questions} & {*other.shut} or {*other.questions} & {*self.shut}:
            return False
        alike = (self.vectors @ other.vectors.T >= SAME).tolist()
        return any(
            one == two or (alike[row][column] and _asks_alike(one, two))
            for row, one in enumerate(self.questions)
            for column, two in enumerate(other.questions)
        )

    def margin(self, question: str, encode: Encode) -> float:
        """How far a nameless question is past the threshold; above 0 the gate is open, CERTAIN for a wording taught."""
        key = question_key(question)
        if key in self.questions:
            return CERTAIN
        if key in self.shut:
            return -CERTAIN
        if _asks_for_itself(key) and any(map(_asks_for_itself, self.questions)):
            return CERTAIN / 2
        numbers = _numbers(key)
        alike = [index for index, own in enumerate(self.questions) if _numbers(own) == numbers and not contrasts(own, key)]
        known = {word for own in self.questions for word in own.split()}
        if not alike or longer_names(question) - known:
            return -CERTAIN
        near = self.vectors[alike] @ encode(question) - torch.tensor([self.thresholds[index] for index in alike])
        return float(near.max())
