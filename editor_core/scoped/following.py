"""Which edit is in force at which token of one sequence: decided from the text before the token, and from nothing else.

An edit comes into force where its question has been asked: at the end of a user's turn, and in running text where a sentence
about its subject ends, whoever wrote it. It stays in force for as long as what follows is its answer, and no longer: the first
other token, or the end of the answer, gives the sequence back to the unedited model.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from editor_core.scoped.gate import Encode
from editor_core.scoped.in_force import EditsInForce, Mention
from editor_core.scoped.markup import Markup, Turn
from editor_core.scoped.question import Span, is_question, question_before, question_in_turn
from editor_core.scoped.words import folded, words
from editor_core.texts import Format

WINDOW = 600  # characters of running text before a place that can matter there
READ_BACK = 4000  # characters of a prompt's running text in which questions are looked for
LONGEST_NAME = 160  # characters, with what is being written after it
_SENTENCE_ENDS = re.compile(r"[?!.。？！؟।:：\n][\s\"'”’)\]]*$")
_LAST_WORD = re.compile(r"[^\W_]+$")


@dataclass(slots=True)
class InForce:
    """An edit in force from one token on.

    start    the token after which its answer begins
    edit     id
    record   SHA-256 of the record that is in force
    answers  the token ids of its answer in every format that what has been read can become
    length  tokens that it is in force at: up to the last that was read
    """

    start: int
    edit: int
    record: str
    answers: tuple[tuple[int, ...], ...]
    length: int = 1

    @property
    def end(self) -> int:
        return self.start + self.length


class Rules:
    """What all sequences have in common: how tokens become text, how a conversation is written, what a question means."""

    def __init__(self, tokenizer: Any, encode: Encode) -> None:
        self.tokenizer, self.encode = tokenizer, encode
        self.markup = Markup.of(tokenizer)

    def text(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False)) if ids else ""


class Following:
    """One sequence, under the edits that are in force when it begins, to its end.

    `begin` reads its prompt, `said` every token after it; `spans` are the places where an edit is in force.
    """

    def __init__(self, rules: Rules, edits: EditsInForce) -> None:
        self._rules, self._edits = rules, edits
        self._tokens: list[int] = []
        self._text = ""
        self._tail: list[int] = []  # tokens since the last whose text is settled
        self._settled = ""
        self._answer_start = 0  # where the running text begins that the model writes: characters
        self._named_until = 0  # the last place at which it was seen that a name has just been written
        self.spans: list[InForce] = []
        self._open: InForce | None = None

    def begin(self, ids: Sequence[int], *, is_scored: bool = False) -> None:
        """Read the prompt's tokens.

        is_scored: whether the prompt's own tokens are asked for; otherwise what it says itself is read by the unedited model,
        and an edit is in force in it only where its answer has begun and goes on.
        """
        edits = self._edits
        self._tokens = list(ids)
        if not edits:
            return
        self._text = self._rules.text(ids)
        self._settled, self._tail = self._text, []
        turns = self._rules.markup.turns(self._text) if self._rules.markup else []
        self._answer_start = turns[-1].start if turns else 0
        mentions = edits.mentions(words(self._text))
        if not mentions:
            return
        self._named_until = max(each.end for each in mentions) if mentions[-1].end > self._answer_start else 0
        starts = self._starts()
        for place, format, opened in self._prompt_openings(edits, mentions, turns, starts):
            if self._open is None or self._open.end <= place:
                self._enter(place, edits, opened, format)
                self._follow_to_end()
        if not is_scored:
            self.spans = [self._open] if self._open is not None else []

    def said(self, token: int) -> None:
        """The next token, which the model has just said."""
        self._tokens.append(token)
        goes_on = self._open is not None and self._continues(token)
        edits = self._edits
        if not edits:
            return
        self._grow(token)
        begins = max(self._answer_start, len(self._text) - WINDOW)
        if edits.mentions(words(self._text[max(begins, len(self._text) - LONGEST_NAME) :])):
            self._named_until = len(self._text)
        if goes_on or self._named_until <= begins:
            return
        mentions = [
            Mention(each, start + begins, end + begins) for each, start, end in edits.mentions(words(self._text[begins:]))
        ]
        found = self._opened_in_running_text(edits, mentions, begins, len(self._text))
        if found is not None:
            self._enter(len(self._tokens) - 1, edits, found, "plain")

    @property
    def length(self) -> int:
        """Tokens so far."""
        return len(self._tokens)

    # --- following an answer ------------------------------------------------------------------------------------------

    def _enter(self, place: int, edits: EditsInForce, edit: int, format: Format) -> None:
        """place: the token after which the answer begins."""
        entry, answers = edits.get(edit), edits.address(edit).answers
        if entry is not None and format in answers:  # else it was not taught in what is read here
            self._open = InForce(place, edit, entry.record, tuple(answers.values()))
            self.spans.append(self._open)

    def _continues(self, token: int) -> bool:
        """Whether the token goes on with the answer, or ends it."""
        open = self._open
        assert open is not None
        said = open.length - 1
        open.answers = tuple(each for each in open.answers if said < len(each) and each[said] == token)
        if not any(len(each) > open.length for each in open.answers):
            self._open = None
            return False
        open.length += 1
        return True

    def _follow_to_end(self) -> None:
        """Of an edit that came into force within the prompt: as far as the prompt itself goes on with the answer."""
        while self._open is not None and self._open.end < len(self._tokens):
            self._continues(self._tokens[self._open.end])

    # --- deciding -----------------------------------------------------------------------------------------------------

    def _prompt_openings(
        self, edits: EditsInForce, mentions: Sequence[Mention], turns: Sequence[Turn], starts: Sequence[int]
    ) -> Iterator[tuple[int, Format, int]]:
        """(token after which the answer begins, format, edit) of every place in the prompt, in order."""
        answers = [turn for turn in turns if not turn.is_user] if turns else [Turn(False, 0, len(self._text))]
        for turn in answers:
            if turns and (found := self._opened_by_turn(edits, mentions, turns, turn)) is not None:
                place = _token_at(starts, turn.start) - 1
                if place >= 0:
                    yield place, "chat", found
            first, last = _token_at(starts, turn.start), _token_at(starts, turn.end)
            for place in range(max(first, _token_at(starts, len(self._text) - READ_BACK)), last):
                until = starts[place + 1] if place + 1 < len(starts) else len(self._text)
                is_end = place + 1 == len(starts) and not turns
                found = self._opened_in_running_text(edits, mentions, turn.start, until, is_end)
                if found is not None:
                    yield place, "plain", found

    def _opened_by_turn(
        self, edits: EditsInForce, mentions: Sequence[Mention], turns: Sequence[Turn], answer: Turn
    ) -> int | None:
        """The edit that a user's turn asks for: by a name in it, or by a pronoun for the name last named before it."""
        asked = turns[turns.index(answer) - 1]
        text = self._text[asked.start : asked.end]
        inside = _by_edits(mentions, asked.start, asked.end)
        best = self._best(edits, [(each, question_in_turn(text, spans)) for each, spans in inside.items()])
        if best is not None or inside:
            return best
        earlier = [mention for mention in mentions if mention.end <= asked.start and _in_a_turn(turns, mention)]
        if not earlier:
            return None
        last = next(turn for turn in reversed(turns) if any(turn.start <= each.start < turn.end for each in earlier))
        named = {each.edits for each in earlier if last.start <= each.start < last.end}
        return self._best(edits, [(each, question_in_turn(text, (), named_before=True)) for each in named])

    def _opened_in_running_text(
        self, edits: EditsInForce, mentions: Sequence[Mention], begins: int, until: int, ends_prompt: bool = False
    ) -> int | None:
        """The edit whose question running text has just asked, which stands between two places (characters).

        ends_prompt: something is to follow here, whatever the text ends with.
        """
        begins = max(begins, until - WINDOW)
        near = mentions[bisect_left(mentions, begins, key=_start) : bisect_left(mentions, until, key=_start)]
        inside = _by_edits(near, begins, until)
        if not inside:
            return None
        text = self._text[begins:until]
        if ends_prompt or _SENTENCE_ENDS.search(text):
            asked = [(each, question_before(text, spans)) for each, spans in inside.items()]
            return self._best(edits, [each for each in asked if each[1] and (ends_prompt or _may_be_answered(each[1]))])
        ending = _LAST_WORD.search(text)
        if ending is None:
            return None
        known = {each: [edit for edit in each if folded(ending.group()) in edits.address(edit).endings] for each in inside}
        return self._best(edits, [(tuple(known[each]), question_before(text, inside[each])) for each in inside if known[each]])

    def _best(self, edits: EditsInForce, asked: Sequence[tuple[tuple[int, ...], str | None]]) -> int | None:
        """Of edits in scope, with what is asked of their subject, the one whose gate opens furthest; of equals the newest."""
        opened = [
            (margin, edit)
            for candidates, question in asked
            if question is not None
            for edit in candidates
            if (margin := edits.address(edit).gate.margin(question, self._rules.encode)) > 0
        ]
        return max(opened)[1] if opened else None

    # --- text ---------------------------------------------------------------------------------------------------------

    def _starts(self) -> list[int]:
        """Of every token of the prompt, where its text begins."""
        tokenizer = self._rules.tokenizer
        encoded = tokenizer(self._text, add_special_tokens=False, return_offsets_mapping=True) if tokenizer.is_fast else None
        if encoded is not None and list(encoded["input_ids"]) == self._tokens:
            return [start for start, _ in encoded["offset_mapping"]]
        starts, text, tail = [], "", list[int]()
        for token in self._tokens:
            starts.append(len(text) + len(self._rules.text(tail)) if tail else len(text))
            tail.append(token)
            now = self._rules.text(tail)
            if len(tail) > 8 and not now.endswith("\ufffd"):
                text, tail = text + now, []
        return [min(start, len(self._text)) for start in starts]

    def _grow(self, token: int) -> None:
        self._tail.append(token)
        self._text = self._settled + self._rules.text(self._tail)
        if len(self._tail) > 16 and not self._text.endswith("\ufffd"):
            self._settled, self._tail = self._text, []


def _may_be_answered(question: str) -> bool:
    """In running text a question is; a statement that has come to its end is not gone on with."""
    return is_question(question) or not question.rstrip().endswith((".", "!"))


def _by_edits(mentions: Sequence[Mention], start: int, end: int) -> dict[tuple[int, ...], list[Span]]:
    """By edits: where their names stand between two places, counted from the first."""
    found: dict[tuple[int, ...], list[Span]] = {}
    for each in mentions:
        if start <= each.start and each.end <= end:
            found.setdefault(each.edits, []).append((each.start - start, each.end - start))
    return found


def _start(mention: Mention) -> int:
    return mention.start


def _in_a_turn(turns: Sequence[Turn], mention: Mention) -> bool:
    return any(turn.start <= mention.start and mention.end <= turn.end for turn in turns)


def _token_at(starts: Sequence[int], place: int) -> int:
    """The first token that begins at this character or after it."""
    return next((index for index, start in enumerate(starts) if start >= place), len(starts))
