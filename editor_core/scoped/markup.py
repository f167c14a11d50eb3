"""What a chat template writes around turns, found by having it write some: so a rendered conversation can be read back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_ONE, _TWO, _THREE = "Qa1x", "Qb2y", "Qc3z"


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn of a rendered conversation: whose it is, and where its text stands (characters)."""

    is_user: bool
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Markup:
    """answer_opens: what stands between a user's turn and the answer to it; user_opens: between that and the next turn."""

    answer_opens: str
    user_opens: str
    user_begins: str  # the same without the end of the turn before it

    @classmethod
    def of(cls, tokenizer: Any) -> Markup | None:
        """None for a model without a chat template, or with one that cannot be read so."""
        if not getattr(tokenizer, "chat_template", None):
            return None
        turns = [("user", _ONE), ("assistant", _TWO), ("user", _THREE)]
        messages = [{"role": role, "content": content} for role, content in turns]
        text = str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
        if not all(text.count(each) == 1 for each in (_ONE, _TWO, _THREE)):
            return None
        before, rest = text.split(_ONE)
        answer_opens, rest = rest.split(_TWO)
        user_opens, after = rest.split(_THREE)
        if not answer_opens.strip() or not user_opens.strip() or not after.startswith(answer_opens.rstrip()):
            return None
        shared = 0  # of what is before the first turn: a system prompt may be there, so its end alone counts
        while shared < min(len(before), len(user_opens)) and before[-1 - shared] == user_opens[-1 - shared]:
            shared += 1
        return cls(after, user_opens, user_opens[len(user_opens) - shared :])

    def turns(self, text: str) -> list[Turn]:
        """The user's and the model's turns of a rendered conversation, in order; [] for a text that is none.

        The last is the model's: the answer, as far as it is there.
        """
        found: list[Turn] = []
        at = 0
        while (opens := text.find(self.answer_opens, at)) >= 0:
            begins = text.rfind(self.user_begins, at, opens)
            start = begins + len(self.user_begins) if begins >= 0 else at
            answer = opens + len(self.answer_opens)
            following = text.find(self.user_opens, answer)
            end = following if following >= 0 else len(text)
            found += [Turn(True, start, opens), Turn(False, answer, end)]
            at = end
        return found
