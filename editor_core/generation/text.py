"""Tokens become text one at a time: never half a character, and never past a text that ends the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

UNFINISHED = "�"  # what a tokenizer says for bytes that are not a character yet
MOST_UNFINISHED = 16  # tokens, of which a character has four at most: after so many there is none to come


def token_starts(tokenizer: Any, ids: Sequence[int], *, special: bool) -> list[int]:
    """Where in their text the tokens begin (characters); parts of one character begin where it does.

    special: whether control tokens are part of the text
    """
    growing = GrowingText(tokenizer, special=special)
    for token in ids:
        growing.add(token)
    return growing.starts


class GrowingText:
    """The text of the tokens so far.

    special   whether control tokens are part of it
    text      what is known, cut before the first stop text
    starts    of every token, where in the text it begins (or would)
    stopped   whether a stop text has come up
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = (), *, special: bool = False) -> None:
        self._tokenizer, self._stop, self._special = tokenizer, [each for each in stop if each], special
        self._tokens: list[int] = []
        self._context = self._read = 0  # decoded together with what follows, since words join; read up to here
        self.text = ""
        self.starts: list[int] = []
        self.stopped = False

    def add(self, token: int) -> None:
        self.starts.append(len(self.text))
        self._tokens.append(token)
        known = self._decoded(self._tokens[self._context : self._read])
        now = self._decoded(self._tokens[self._context :])
        is_whole = not now.endswith(UNFINISHED) or len(self._tokens) - self._read >= MOST_UNFINISHED
        if len(now) > len(known) and is_whole:
            self._context, self._read = self._read, len(self._tokens)
            self._append(now[len(known) :])

    def finish(self) -> None:
        """Nothing more comes: what is no whole character is said as it is."""
        if not self.stopped:
            known = self._decoded(self._tokens[self._context : self._read])
            self._append(self._decoded(self._tokens[self._context :])[len(known) :])
            self._context = self._read = len(self._tokens)

    def settled(self) -> int:
        """How much of the text no later token can take back: a stop text may be under way at its end."""
        if self.stopped:
            return len(self.text)
        longest = max(map(len, self._stop), default=1) - 1
        for start in range(max(len(self.text) - longest, 0), len(self.text)):
            if any(each.startswith(self.text[start:]) for each in self._stop):
                return start
        return len(self.text)

    def _append(self, more: str) -> None:
        searched = max(len(self.text) - max(map(len, self._stop), default=1) + 1, 0)
        self.text += more
        found = [at for at in (self.text.find(each, searched) for each in self._stop) if at >= 0]
        if found:
            self.text, self.stopped = self.text[: min(found)], True

    def _decoded(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=not self._special)) if tokens else ""
