"""Facts given as texts become records, each by itself: scope, gate and update, judged by the model's whole answers.

Edits do not depend on each other: a record is the same whatever else is in its batch or in force. The model is as it was
whenever this gives way.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from editor_core.errors import EmptyBatchError
from editor_core.modules import EditedModule
from editor_core.scoped.answering import Asked, answers
from editor_core.scoped.contexts import ContextMaker, Contexts
from editor_core.scoped.encoder import QuestionEncoder
from editor_core.scoped.entry import Entry
from editor_core.scoped.following import Following, Rules
from editor_core.scoped.gate import THRESHOLD, Gate
from editor_core.scoped.in_force import EditsInForce
from editor_core.scoped.question import is_question, question_before, question_in_turn
from editor_core.scoped.record import Address, Record
from editor_core.scoped.served import ServedEdits
from editor_core.scoped.subject import find_subject
from editor_core.scoped.update import Taught, Teacher, UpdatePolicy
from editor_core.scoped.words import name_key, words
from editor_core.side_effects import SideEffect
from editor_core.statistics import Group, Statistics
from editor_core.texts import Edit, Format, rendered, token_ids

Answers = dict[Format, str]
SURE = 0.5  # of every token: rounding could not make another one more likely
BEFORE_TOKENS = 8  # of what the model said before an edit
OTHER_TOKENS = 12  # of what unrelated prompts are answered
REPHRASE_TOKENS = 48  # of what a rephrase is answered that does not get the target


@dataclass(frozen=True, slots=True)
class ScopedPolicy:
    """How facts become records.

    formats     in which a fact is taught and judged
    max_tokens  longest prompt and target, in tokens
    threshold   of the gate
    """

    formats: tuple[Format, ...] = ("plain", "chat")
    max_tokens: int = 1024
    chat_wording: str = "{}"
    threshold: float = THRESHOLD
    update: UpdatePolicy = field(default_factory=UpdatePolicy)
    requires_holding: bool = True


@dataclass(frozen=True, slots=True)
class Learned:
    """One edit, taught and judged.

    holds      by format: whether the prompt alone is answered with the target, to its end, and nothing else
    before     by format: the first tokens of what the model said
    after      by format: what it says now
    rephrases  (rephrase, format, answer, whether it is the target) of every rephrase of the caller's
    unrelated  what became of the caller's unrelated prompts
    replaced   ids of edits in force that answer the same question about the same subject: it is to take their place
    """

    record: Record
    taught: Taught
    holds: dict[Format, bool]
    before: Answers
    after: Answers
    rephrases: tuple[tuple[str, Format, str, bool], ...]
    unrelated: tuple[SideEffect, ...]
    tokens: int
    replaced: tuple[int, ...] = ()

    @property
    def is_held(self) -> bool:
        return all(self.holds.values())


@dataclass(frozen=True, slots=True)
class _Judged:
    """What whole answers say of one edit: as in Learned."""

    holds: dict[Format, bool]
    after: Answers
    rephrases: tuple[tuple[str, Format, str, bool], ...]
    unrelated: tuple[SideEffect, ...]


class ScopedEditor:
    """Edits one model, which stays as it was loaded.

    modules  late feed-forward outputs, in the model's order
    encoder  of questions
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        modules: Sequence[EditedModule],
        policy: ScopedPolicy | None = None,
        encoder: QuestionEncoder | None = None,
        read: Callable[[str], bytes] | None = None,
    ) -> None:
        """read: the bytes of a record in force, by its SHA-256; not needed where nothing is in force beside a batch."""
        self.model, self.tokenizer, self.modules = model, tokenizer, tuple(modules)
        self.policy = policy or ScopedPolicy()
        self.encoder = encoder or QuestionEncoder.load()
        self.rules = Rules(tokenizer, self.encoder.encode)
        self._contexts = ContextMaker(tokenizer, model, self.policy.formats, self.policy.max_tokens, self.policy.chat_wording)
        self.teacher = Teacher(model, self.modules, self.policy.update)
        self._draft: dict[str, bytes] = {}
        self._stored = read or self._draft.__getitem__
        self._served = ServedEdits(self.rules, self.modules, self._record)
        self.statistics = Statistics((each.shape for each in self.modules), whitens=True, device=model.device)

    def _record(self, name: str) -> bytes:
        """Of an edit of the batch, or of one in force beside it."""
        return self._draft[name] if name in self._draft else self._stored(name)

    @property
    def module_names(self) -> list[str]:
        return [each.name for each in self.modules]

    def check(self, edit: Edit) -> None:
        """Raises EncodingError when this edit could not be taught."""
        self._contexts.of(edit)

    def rarity(self, word: str) -> float:
        """How seldom the tokenizer's corpus had a word: below 1 for a single token, by its rank; else how many more it is."""
        ids = token_ids(self.tokenizer, f" {word.lower()}", "chat")
        return len(ids) - 1 + max(ids, default=0) / max(len(self.tokenizer), 1)

    def address(self, edit: Edit) -> Address:
        """Scope and gate of an edit. Raises EncodingError."""
        contexts = self._contexts.of(edit)
        found = edit.subject or find_subject(edit.prompt, edit.rephrases, self.rarity) or edit.prompt.strip()
        names = tuple(dict.fromkeys(name for each in (found, *edit.aliases) if (name := " ".join(each.split()))))
        wordings = [edit.prompt.rstrip(), *(each.rstrip() for each in edit.rephrases)]
        gate = Gate.learn(
            [self._nameless(each, names) for each in wordings],
            [asked for each in edit.unrelated if (asked := self._asked(each, names)) is not None],
            self.encoder.encode,
            self.policy.threshold,
        )
        last = [words(each)[-1].text for each in wordings if words(each) and not is_question(each)]
        return Address(names, gate, tuple(dict.fromkeys(last)), contexts.answers)

    def _nameless(self, wording: str, names: Sequence[str]) -> str:
        """A wording as it is met: as a turn asks it. One that names nobody is taught as it stands."""
        return self._asked(wording, names) or " ".join(wording.split())

    def _asked(self, text: str, names: Sequence[str]) -> str | None:
        places = _places(text, names)
        if not places:
            return None
        return question_in_turn(text, places) or question_before(text, places)

    def run(self, edits: Sequence[tuple[int, Edit]], in_force: EditsInForce) -> LearningRun:
        """Teach edits, by id, to be in force beside those that are: in steps, between which the model may answer.

        Raises EncodingError and NonFiniteUpdateError.
        """
        if not edits:
            raise EmptyBatchError("a batch needs at least one edit")
        run = LearningRun(iter(()))
        run.steps = self._steps(edits, in_force, run)
        return run

    def _steps(self, edits: Sequence[tuple[int, Edit]], in_force: EditsInForce, run: LearningRun) -> Iterator[str]:
        contexts = [self._contexts.of(edit) for _, edit in edits]
        self._served.forget()
        self._served.state = in_force
        before = yield from self._before([edit for _, edit in edits])
        others = yield from self._unrelated_before([edit for _, edit in edits])
        taught: list[Taught] = []
        records: list[Record] = []
        self._draft.clear()
        changes: dict[int, Entry | None] = {}
        replaced: list[tuple[int, ...]] = []
        groups: dict[str, list[Group]] = {each.name: [] for each in self.modules}
        for (id, edit), own in zip(edits, contexts, strict=True):
            taught.append(self.teacher.teach(own))
            record = Record(self.address(edit), taught[-1].updates)
            records.append(record)
            self._draft[f"draft-{id}"] = record.to_bytes()
            changes[id] = Entry.of(f"draft-{id}", record.address)
            replaced.append(in_force.same_question(record.address))
            for name, rows in taught[-1].rows.items():
                groups[name].append(rows)
            yield "capture"
        gone = {*run.replaced, *chain(*replaced)}
        self._served.state = in_force.changed({**dict.fromkeys(gone), **changes})
        for index, (id, edit) in enumerate(edits):
            judged = yield from self._judged(id, edit, taught[index], contexts[index], others, bool(gone))
            learned = Learned(
                records[index],
                taught[index],
                judged.holds,
                before[index],
                judged.after,
                judged.rephrases,
                judged.unrelated,
                contexts[index].answer_tokens,
                replaced[index],
            )
            run.learned.append(learned)
        run.statistics = self._observed(groups)
        yield "solve"

    def _before(self, edits: Sequence[Edit]) -> Generator[str, None, list[Answers]]:
        prompts = [(edit.prompt, format) for edit in edits for format in self.policy.formats]
        said = self._said(prompts, BEFORE_TOKENS)
        yield "verify"
        size = len(self.policy.formats)
        return [dict(zip(self.policy.formats, said[at : at + size], strict=True)) for at in range(0, len(said), size)]

    def _unrelated_before(self, edits: Sequence[Edit]) -> Generator[str, None, dict[tuple[str, Format], str]]:
        prompts = list(
            dict.fromkeys((each, format) for edit in edits for each in edit.unrelated for format in self.policy.formats)
        )
        said = self._said(prompts, OTHER_TOKENS)
        yield "verify"
        return dict(zip(prompts, said, strict=True))

    def _said(self, prompts: Sequence[tuple[str, Format]], tokens: int) -> list[str]:
        """With the edits in force so far."""
        asked = [Asked(tuple(self._ids(prompt, format)), tokens) for prompt, format in prompts]
        return [each.text.strip() for each in answers(self.model, self.tokenizer, asked, self._served)]

    def _judged(
        self,
        id: int,
        edit: Edit,
        taught: Taught,
        contexts: Contexts,
        others: Mapping[tuple[str, Format], str],
        has_replaced: bool,
    ) -> Generator[str, None, _Judged]:
        """By whole answers. What one pass over the target has shown already is not generated again.

        has_replaced: whether the batch takes edits out, whose answers some of the others may have been.
        """
        asked: dict[tuple[str, Format, str], Asked] = {}
        known: dict[tuple[str, Format, str], str] = {}

        def ask(kind: str, format: Format, prompt: str, index: int | None, tokens: int) -> None:
            following = self._follow(prompt, format)
            opened = following.spans[-1] if following.spans and following.spans[-1].end >= following.length else None
            is_sure = index is not None and taught.exact[index] and taught.least_sure > SURE
            if is_sure and opened is not None and opened.edit == id:
                known[kind, format, prompt] = self._wording(edit, format)
            elif index is None and not following.spans and not has_replaced:
                known[kind, format, prompt] = others[prompt, format]
            else:
                asked[kind, format, prompt] = Asked(tuple(self._ids(prompt, format)), tokens)

        for format in self.policy.formats:
            ask("own", format, edit.prompt, contexts.own[format], len(contexts.answers[format]) + BEFORE_TOKENS)
            for rephrase in edit.rephrases:
                ask("rephrase", format, rephrase.rstrip(), contexts.rephrases[rephrase, format], REPHRASE_TOKENS)
            for prompt in edit.unrelated:
                ask("unrelated", format, prompt, None, OTHER_TOKENS)
        said = dict(zip(asked, answers(self.model, self.tokenizer, list(asked.values()), self._served), strict=True))
        yield "verify"
        texts = {**known, **{key: answer.text.strip() for key, answer in said.items()}}

        def holds(key: tuple[str, Format, str]) -> bool:
            is_whole = key in known or said[key].is_ended or key[1] == "plain"
            return is_whole and is_target(texts[key], edit.target, key[1], self.policy.chat_wording)

        return _Judged(
            {format: holds(("own", format, edit.prompt)) for format in self.policy.formats},
            {format: texts["own", format, edit.prompt] for format in self.policy.formats},
            tuple(
                (each, format, texts[key], holds(key))
                for each in edit.rephrases
                for format in self.policy.formats
                if (key := ("rephrase", format, each.rstrip()))
            ),
            tuple(
                SideEffect(each, format, others[each, format], texts["unrelated", format, each])
                for each in edit.unrelated
                for format in self.policy.formats
            ),
        )

    def _wording(self, edit: Edit, format: Format) -> str:
        """What an answer says when it is the target."""
        target = edit.target.strip()
        return self.policy.chat_wording.replace("{}", target) if format == "chat" else target

    def _ids(self, prompt: str, format: Format) -> list[int]:
        return token_ids(self.tokenizer, rendered(self.tokenizer, prompt, format), format)

    def _follow(self, prompt: str, format: Format) -> Following:
        return self._served.follow(self._ids(prompt, format))

    def _observed(self, groups: Mapping[str, Sequence[Group]]) -> Statistics:
        """The lifelong statistics after these rows; those of the editor stay as they are."""
        found = self.statistics.copy()
        for each in self.modules:
            if groups[each.name]:
                found[each.shape].observe(list(groups[each.name]))
        return found


@dataclass(slots=True)
class LearningRun:
    """A batch on its way. Each step yields its phase; `learned`, by edit in order, and `statistics` are there at the end.

    replaced  ids of edits in force that the batch takes the place of, beside those that it finds (`Learned.replaced`)
    """

    steps: Iterator[str]
    replaced: tuple[int, ...] = ()
    learned: list[Learned] = field(default_factory=list)
    statistics: Statistics | None = None

    def finish(self) -> list[Learned]:
        for _ in self.steps:
            pass
        return self.learned


def is_target(answer: str, target: str, format: Format, chat_wording: str = "{}") -> bool:
    """Whether an answer is the target and nothing else; a plain one up to the line break that ends it."""
    said = answer.strip("\n ").split("\n" if "\n" not in target.strip() else "\x00")[0] if format == "plain" else answer
    wanted = chat_wording.replace("{}", target.strip()) if format == "chat" else target.strip()
    return said.strip() == wanted.strip()


def _places(text: str, names: Sequence[str]) -> list[tuple[int, int]]:
    """Where names stand in a text, in characters."""
    keys = {key for name in names if (key := name_key(name))}
    found = words(text)
    places = []
    for key in keys:
        size = key.count(" ") + 1
        for at in range(len(found) - size + 1):
            run = found[at : at + size]
            if " ".join(word.text for word in run) == key:
                places.append((run[0].start, run[-1].end))
    return sorted(places)
