"""The contexts in which a fact is taught: what may stand around its question when somebody asks.

Of every kind of context one stands for many: the update is one matrix, so what it learns from a mean key carries over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from editor_core.errors import EncodingError
from editor_core.greedy import end_tokens
from editor_core.scoped.question import QUESTION_MARKS
from editor_core.texts import Edit, Format, conversation, guarded, rendered, token_ids

TURNS = (
    {"role": "user", "content": "Hello, can you help me?"},
    {"role": "assistant", "content": "Of course. What would you like to know?"},
)
SYSTEM = {"role": "system", "content": "Answer the question."}
QUESTION_WORDS = frozenset(["who", "whom", "whose", "what", "when", "where", "which", "why", "how"])
BOUNDARY = "\n"  # what ends a plain answer; the model goes on by itself after it


@dataclass(frozen=True, slots=True)
class Context:
    """A prompt as token ids in a format, whose answer the model is to say after its last token.

    shared  how many of its first tokens do not depend on the edit: what a chat template and other turns write
    """

    ids: tuple[int, ...]
    format: Format
    shared: int = 0


@dataclass(frozen=True, slots=True)
class Contexts:
    """What an edit is taught and judged in.

    answers    by format: the target's token ids with what ends it
    taught     all contexts
    own        by format: the index among them of the prompt itself alone
    rephrases  by rephrase of the caller's and format: the index of that
    """

    answers: dict[Format, tuple[int, ...]]
    taught: tuple[Context, ...]
    own: dict[Format, int]
    rephrases: dict[tuple[str, Format], int]

    @property
    def answer_tokens(self) -> int:
        """Answer tokens that the statistics see: of every context."""
        return sum(len(self.answers[each.format]) for each in self.taught)


@dataclass(frozen=True, slots=True)
class _Frame:
    """Words or turns around a question. is_bare: of the question without its mark; is_lower: in small letters as well."""

    format: Format
    before: str = ""
    after: str = ""
    turns: tuple[dict[str, str], ...] = ()
    is_bare: bool = False
    is_lower: bool = False


# The first of each format is the question alone. The second has all at once that may be different about it: what it carries
# over to is what six frames with one difference each carried over to, for two thirds of their cost.
FRAMES = (
    _Frame("plain"),
    _Frame("plain", "I was asked this. Q: ", "\nA:", is_bare=True, is_lower=True),
    _Frame("chat"),
    _Frame("chat", "Please tell me: ", turns=(SYSTEM, *TURNS), is_bare=True, is_lower=True),
)


class ContextMaker:
    """Makes the contexts of edits for one model."""

    def __init__(
        self, tokenizer: Any, model: Any, formats: Sequence[Format], max_tokens: int, chat_wording: str = "{}"
    ) -> None:
        self._tokenizer, self._model = tokenizer, model
        self.formats, self._max_tokens, self._wording = tuple(formats), max_tokens, chat_wording
        self._frames = [(frame, self._shared(frame)) for frame in FRAMES if frame.format in formats]

    def of(self, edit: Edit) -> Contexts:
        """Raises EncodingError for an empty prompt or target, or a prompt and target of more than max_tokens tokens."""
        prompt, target = edit.prompt.rstrip(), edit.target.strip()
        if not prompt or not target:
            raise EncodingError("prompt and target must hold something other than white space")
        answers = {format: answer_ids(self._tokenizer, self._model, target, format, self._wording) for format in self.formats}
        taught: dict[Context, int] = {}
        own: dict[Format, int] = {}
        for frame, shared in self._frames:
            is_own = frame.format not in own
            index = self._add(taught, frame, shared, edit.prompt if is_own else prompt, answers)
            own.setdefault(frame.format, index)
        rephrases: dict[tuple[str, Format], int] = {}
        alone = list({frame.format: (frame, shared) for frame, shared in reversed(self._frames)}.values())
        for rephrase in edit.rephrases:
            for frame, shared in alone:
                rephrases[rephrase, frame.format] = self._add(taught, frame, shared, rephrase.rstrip(), answers)
        if _asks_without_mark(prompt):
            for frame, shared in alone:
                self._add(taught, frame, shared, prompt + "?", answers)
        return Contexts(answers, tuple(taught), own, rephrases)

    def _add(
        self,
        taught: dict[Context, int],
        frame: _Frame,
        shared: int,
        question: str,
        answers: dict[Format, tuple[int, ...]],
    ) -> int:
        ids = self._ids(frame, question)
        size = len(ids) + len(answers[frame.format])
        if size > self._max_tokens:
            raise EncodingError(
                f"prompt and target are {size} tokens in {frame.format} format; the limit is {self._max_tokens}"
            )
        if (len(ids) < 2 and frame.format == "chat") or not ids:
            raise EncodingError("the prompt has no token of its own to answer after")
        return taught.setdefault(Context(tuple(ids), frame.format, min(shared, len(ids) - 1)), len(taught))

    def _ids(self, frame: _Frame, question: str) -> list[int]:
        if frame.is_bare:
            question = question.rstrip(QUESTION_MARKS + ". ") or question
        if frame.is_lower:
            question = question.lower()
        text = frame.before + question + frame.after
        if frame.format == "plain":
            return token_ids(self._tokenizer, rendered(self._tokenizer, text, "plain"), "plain")
        try:
            written = conversation(self._tokenizer, [*frame.turns, {"role": "user", "content": text}])
        except Exception:  # a template that takes no system prompt, or no such turns
            written = rendered(self._tokenizer, text, "chat")
        return token_ids(self._tokenizer, written, "chat")

    def _shared(self, frame: _Frame) -> int:
        if frame.format == "plain":
            return 0
        pairs = zip(self._ids(frame, "A"), self._ids(frame, "?"), strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _asks_without_mark(prompt: str) -> bool:
    """Whether others will ask it with a question mark."""
    return not prompt.endswith(tuple(QUESTION_MARKS)) and prompt.split(maxsplit=1)[0].lower() in QUESTION_WORDS


def answer_ids(tokenizer: Any, model: Any, target: str, format: Format, chat_wording: str = "{}") -> tuple[int, ...]:
    """The target as it follows a prompt, with what ends it: the end of the turn in chat, a line break in plain."""
    target = guarded(tokenizer, target)
    if format == "chat":
        said = token_ids(tokenizer, chat_wording.replace("{}", target), "chat")
        return (*said, turn_end(tokenizer, model))
    before = token_ids(tokenizer, "?", "plain")
    return tuple(token_ids(tokenizer, f"? {target}{BOUNDARY}", "plain")[len(before) :])


def turn_end(tokenizer: Any, model: Any) -> int:
    """The token that ends a chat answer: of the model's end tokens the one that its template writes after one."""
    turns = [{"role": "user", "content": "A"}, {"role": "assistant", "content": "Bz"}]
    written = str(tokenizer.apply_chat_template(turns, tokenize=False))
    ends = end_tokens(model)
    after = token_ids(tokenizer, written[written.rindex("Bz") + 2 :], "chat")
    return next((token for token in after if token in ends), min(ends, default=tokenizer.eos_token_id))
