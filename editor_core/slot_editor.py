"""Edits given as texts, written into memory slots: subject slots make the question unmistakable, answer slots answer it.

1. Subject slots, in early blocks, open at the token that tells the fact's subject from everything else. A few steps on their
   values, whitened by the lifelong statistics, leave a mark that attention carries to the end of any question about it.
2. Answer slots, in late blocks, open at the positions that say the answer, where that mark makes the input unlike any
   other's; so they open for rephrased questions too. Their values take Polyak steps (the loss over the squared slope) until
   every token of the answer is likely enough.
3. The model is asked, by generation. What does not hold is taught again, a few rounds.

A step is the ridge update of StableEdit in the slots' own key space: with H the gates (N × S), Delta = (H^T H + alpha I)^-1
H^T V. Slots are open or shut and hardly ever two at once, so H^T H is diagonal but for noise and the step is H^T V, scaled.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from editor_core.answers import holds
from editor_core.background import Background, Progress, collect_background, keep_tensors
from editor_core.capture import Rows
from editor_core.config import Phase
from editor_core.draft import Draft
from editor_core.editor import Editor
from editor_core.errors import EncodingError, NonFiniteUpdateError, UpdateTooLargeError
from editor_core.greedy import continued
from editor_core.modules import EditedModule
from editor_core.normalise import Whitener
from editor_core.passages import Passage, alike, opened, rewound
from editor_core.side_effects import side_effects
from editor_core.slot_capture import SlotRows, captured, last_inputs, prompts_read, sequence_of
from editor_core.slot_keys import LEAST_ALIKE, detectors, subject_positions
from editor_core.slot_policy import SlotPolicy
from editor_core.slots import SlotBank, gates
from editor_core.statistics import Statistics
from editor_core.text_editor import BEFORE_TOKENS, Answers, BatchProposal, BatchRun, FactEditor, not_holding
from editor_core.texts import Edit, Example, Format, encode, minibatches, template_tokens, token_ids
from editor_core.update import Proposal, Update

WARMUP_MINIBATCH = 10
WHITENING_FLOOR = 1e-4  # of the largest eigenvalue of Sigma_v
QUICK_ANSWERS = True
OTHER_SURROUNDINGS = ("The", "and", "of the", "in a", "Mr.", "John", "a new", "said,", "1990", "New", "was", "for his")
HIGHEST_FOR_UNMARKED = 0.6  # the threshold that shuts an answer's slot to its own question without the mark, where one can
DECOYS_TOGETHER = 50
DECOY_WEIGHT = 10.0  # of a decoy's input, in inputs of the background
SURER = 0.25  # of what is missing to 1, added to the confidence asked for in every further round


@dataclass(slots=True)
class _Work:
    """A batch under way: its examples, the draft, and what its slots are so far."""

    examples: list[Example]
    contexts: list[Example]  # the prompts in other words around them; they share the slots of `shares`, an index of an example
    shares: list[int]
    draft: Draft
    sequences: list[tuple[int, ...]] = field(default_factory=list)  # by example: the tokens that are read
    starts: list[int] = field(default_factory=list)  # by example: where its subject is
    passages: list[Passage] = field(default_factory=list)  # the examples from where they are being taught on
    owners: dict[str, torch.Tensor] = field(default_factory=dict)  # by module: the edit of each new slot
    before: dict[str, int] = field(default_factory=dict)  # by module: rows in the bank before this batch
    left_out: list[int] = field(default_factory=list)  # examples that are not taught after all
    unmarked: SlotRows | None = None  # the examples before their subjects were marked
    rows: list[Rows] = field(default_factory=list)  # what the statistics are to see, one for all examples
    passes: int = 0


class SlotEditor(FactEditor):
    """Proposes slots for edits given as texts. Leaves the model as it is; `editor.apply` makes a proposal real."""

    def __init__(
        self, editor: Editor, tokenizer: Any, policy: SlotPolicy, folder: Path | None = None, decoys: Sequence[Edit] = ()
    ) -> None:
        """folder: where backgrounds are kept. decoys: facts that stand for other edits, for answer slots to be shut at."""
        super().__init__(editor, tokenizer, policy.formats)
        self.policy = policy
        self._folder = folder
        self._decoys = tuple(decoys)
        self._background: Background | None = None
        self._decoyed = False

    def background(self, progress: Progress = lambda share: None) -> Background:
        """Collected at first use, or read from the folder."""
        if self._background is None:
            self._background = collect_background(
                self.editor.model, self.tokenizer, self.editor.modules, self.policy.formats, self._folder, progress
            )
        return self._background

    def _collect_decoys(self) -> None:
        """Other edits' marked inputs beside the background of the answer blocks: a slot is for one edit's mark, not for any.

        The decoys' subjects are taught on a draft of the unedited model; what then reaches their answers is kept in the folder.
        """
        if self._decoyed or not self._decoys:
            return
        background, modules = self.background(), self._modules(self.policy.answer_blocks)
        path = self._folder / f"decoys-{self._decoys_identity()}.safetensors" if self._folder else None
        if path is not None and path.is_file():
            keys = {name: tensor.clone() for name, tensor in load_file(path).items()}
        else:
            parts: dict[str, list[torch.Tensor]] = {each.name: [] for each in modules}
            for start in range(0, len(self._decoys), DECOYS_TOGETHER):
                rows = self._decoy_rows(self._decoys[start : start + DECOYS_TOGETHER])
                for name in parts:
                    parts[name].append(rows.keys[name])
            keys = {name: torch.cat(each) for name, each in parts.items()}
            if path is not None:
                keep_tensors(keys, path)
        self._background = background | {name: background[name].beside(keys[name], DECOY_WEIGHT) for name in keys}
        self._decoyed = True

    def _decoy_rows(self, decoys: Sequence[Edit]) -> Rows:
        work = self._work(decoys)
        with work.draft:
            self.editor.masters.restore_base()
            read = self._read_prompts(work)
        for _ in self._teach_subjects(work, read):
            pass
        self._add_contexts(work)
        with work.draft:
            rows = captured(
                self.editor.model, self._modules(self.policy.answer_blocks), work.examples, work.passages, quick=True
            )
        return _answer_rows(rows, work.examples)

    def _decoys_identity(self) -> str:
        digest = hashlib.sha256(f"{self.policy} {self._decoys}".encode())
        for module in self.editor.modules:
            assert isinstance(module.module, SlotBank)
            digest.update(f"{module.name} {module.module.host_digest}".encode())
        return digest.hexdigest()[:16]

    def warm_up(self, edits: Sequence[Edit], batch_size: int, apply: bool = False) -> Iterator[tuple[int, Proposal | None]]:
        """Let the statistics see `edits` and collect the background; the proposal at the end changes no weight.

        Yields (edits seen so far, None) batch by batch, and last (all, the proposal). `apply` teaches nothing: slots of facts
        that nobody asked for would only take room.
        """
        parent, statistics = self.editor.step, self.editor.statistics.copy()
        self.background()
        draft = Draft(self.editor)
        for start in range(0, len(edits), batch_size):
            chosen = edits[start : start + batch_size]
            examples = [
                encode(self.tokenizer, edit, format, start + i, self.policy.max_tokens)
                for i, edit in enumerate(chosen)
                for format in self.policy.formats
            ]
            with draft:
                _, batches = minibatches(examples, WARMUP_MINIBATCH, self.tokenizer.pad_token_id)
                statistics = self.editor.observe(self.editor.capture(batches))
                self.editor.statistics.adopt(statistics)
            yield min(start + batch_size, len(edits)), None
        self._collect_decoys()
        yield len(edits), self._proposal("warmup", {}, {}, statistics, parent)

    # --- one batch -----------------------------------------------------------------------------------------------

    def _encode(self, edit: Edit, index: int) -> list[Example]:
        asked = [edit, *(replace(edit, prompt=prompt) for prompt in edit.rephrases)]
        examples = [
            encode(self.tokenizer, each, format, index, self.policy.max_tokens)
            for each in asked
            for format in self.policy.formats
        ]
        if any(len(each.prompt) < 2 for each in examples):
            raise EncodingError("a prompt of one token says nothing that a slot could tell from other prompts; make it longer")
        return examples

    def _asked(self, work: _Work, edits: Sequence[Edit]) -> tuple[list[Answers], list[dict[Format, bool]]]:
        """What the draft says to the edits' prompts, and in which formats that holds."""
        with work.draft:
            said = self._ask(edits)
        return said, [
            {format: holds(each[format], edit.target, format) for format in self.formats}
            for edit, each in zip(edits, said, strict=True)
        ]

    def _ask_again(
        self, work: _Work, edits: Sequence[Edit], chosen: Sequence[int], after: list[Answers], held: list[dict[Format, bool]]
    ) -> None:
        """Put what is now said by some edits in the place of what was."""
        said, holding = self._asked(work, [edits[index] for index in chosen])
        for index, text, holds_now in zip(chosen, said, holding, strict=True):
            after[index], held[index] = text, holds_now

    def _refused(self, held: Sequence[dict[Format, bool]]) -> tuple[int, ...]:
        return not_holding(held) if self.policy.requires_holding else ()

    def _work(self, edits: Sequence[Edit]) -> _Work:
        examples = [example for index, edit in enumerate(edits) for example in self._encode(edit, index)]
        contexts, shares = [], []
        for index, each in enumerate(examples):
            if each.format == "plain" and (index == 0 or examples[index - 1].edit != each.edit):
                for context in self.policy.contexts:
                    around = replace(edits[each.edit], prompt=context.format(edits[each.edit].prompt.strip()))
                    example = encode(self.tokenizer, around, each.format, each.edit, self.policy.max_tokens)
                    if example.answer == each.answer:  # else the tokenizer parts the target from this context elsewhere
                        contexts.append(example)
                        shares.append(index)
        return _Work(examples, contexts, shares, Draft(self.editor))

    def _steps(self, edits: Sequence[Edit], run: BatchRun) -> Iterator[str]:
        parent = self.editor.step
        work = self._work(edits)
        self._collect_decoys()
        yield "capture"
        aside = self._ask_unrelated(edits)
        if self.guard:
            self.guard.begin()
        yield "verify"
        subjects = self._read_prompts(work)
        yield "capture"
        before = self._said_before(work, edits)
        yield "verify"
        yield from self._teach_subjects(work, subjects)
        self._add_contexts(work)
        yield from self._teach_answers(work, list(range(len(work.examples))), self.policy.confidence)
        after, held = self._asked(work, edits)
        yield "verify"
        everyone: (
            tuple[int, ...] | None
        ) = ()  # what was refused when all edits were asked last; None: something was taught since
        confidence = self.policy.confidence
        for _ in range(self.policy.rounds):
            lacking = not_holding(held)
            if not lacking:
                break
            everyone, confidence = None, confidence + SURER * (1 - confidence)
            pending = [i for i, each in enumerate(work.examples) if each.edit in lacking and i not in work.left_out]
            self._reread(work, pending)
            yield "capture"
            yield from self._teach_answers(work, pending, confidence)
            self._ask_again(work, edits, lacking, after, held)
            yield "verify"
        refused = self._refused(held)
        while everyone != refused:  # what is left must hold without what was refused
            self._shut(work, refused)
            self._ask_again(work, edits, [index for index in range(len(edits)) if index not in refused], after, held)
            yield "verify"
            everyone, refused = refused, self._refused(held)
        kept = torch.tensor([each.edit not in refused for each in work.examples])
        statistics = self.editor.observe([rows.only_examples(kept) for rows in work.rows])
        proposal = self._drafted(work, statistics, parent).without(refused)
        with work.draft:
            moved = side_effects(edits, self.policy.formats, aside, self._ask_unrelated(edits))
            damage = self.guard.check() if self.guard else None
        run.outcome = BatchProposal(proposal, before, after, held, work.passes, refused, moved, damage)

    def _read_prompts(self, work: _Work) -> SlotRows:
        """Every prompt is read once; what follows branches off the model's cache of it."""
        work.sequences = [sequence_of(each) for each in work.examples]
        work.passages, read = self._prompts_read(work, range(len(work.examples)))
        return read

    def _prompts_read(self, work: _Work, chosen: Sequence[int]) -> tuple[list[Passage], SlotRows]:
        beginnings = {format: template_tokens(self.tokenizer, format) for format in self.formats}
        shared = [beginnings[each.format] for each in work.examples]
        modules = self._modules(self.policy.subject_blocks)
        return prompts_read(self.editor.model, modules, work.examples, chosen, shared)

    def _reread(self, work: _Work, pending: Sequence[int]) -> None:
        """Read the pending prompts as the draft does: the batch's other slots may open in them, before what is being taught."""
        with work.draft:
            again, _ = self._prompts_read(work, pending)
        work.passages = [rewound(each, work.sequences, work.starts) for each in again]

    def _said_before(self, work: _Work, edits: Sequence[Edit]) -> list[Answers]:
        """What the committed model says to the prompts. Answers may not be in the batch's own spans: those hold the targets."""
        prompts = [each.prompt for each in work.examples]
        asked = {(each.edit, each.format): index for index, each in reversed(list(enumerate(work.examples)))}
        starts = [len(prompt) - 1 for prompt in prompts]
        said = continued(self.editor.model, [rewound(each, prompts, starts) for each in work.passages], BEFORE_TOKENS)
        return self._by_edit([said[asked[index, format]] for index in range(len(edits)) for format in self.formats])

    def _teach_subjects(self, work: _Work, read: SlotRows) -> Iterator[str]:
        modules = self._modules(self.policy.subject_blocks)
        background = self.background()
        positions = subject_positions(self.tokenizer, work.examples, read, background[modules[0].name], modules[0].name)
        lookalikes = self._lookalikes(work, modules, positions)
        work.starts = [max(position, 1) for position in positions]
        for module in modules:
            made = self._subject_detectors(work, module.name, read, positions, lookalikes)
            self._add_slots(work, module.name, made, torch.arange(len(made)))
        work.passages = [rewound(each, work.sequences, work.starts) for each in work.passages]
        speed = {each.name: torch.zeros(len(work.owners[each.name]), each.d_out) for each in modules}
        whitener: Whitener | None = None
        for number in range(self.policy.subject_passes):
            with work.draft:
                # the first pass watches every bank: the statistics see each fact once, before it is taught
                watched = self.editor.modules if number == 0 else modules
                rows = captured(self.editor.model, watched, work.examples, work.passages, quick=True)
            yield "capture"
            if number == 0:
                work.rows = [_answer_rows(rows, work.examples)]
                work.unmarked = rows
                estimate = self.editor.observe(work.rows)[modules[0].shape]
                whitener = Whitener.of(estimate, WHITENING_FLOOR) if estimate.covariance_is_determined else None
            for module in modules:
                if number:  # the marks made so far are in the inputs of the blocks after them
                    made = self._subject_detectors(work, module.name, rows, positions, lookalikes)
                    self._set_detectors(work, module.name, made)
                slope = self._slope(work, module.name, rows, whitener)
                step = slope / slope.norm(dim=1, keepdim=True).clamp_min(1e-30)
                size = self.policy.subject_step * background[module.name].scale
                speed[module.name] = self.policy.momentum * speed[module.name] - size * step
                self._move(work, module.name, speed[module.name])
            work.passes += 1
            yield "solve"
        work.passages = [rewound(each, work.sequences, work.starts) for each in work.passages]  # other input now

    def _add_contexts(self, work: _Work) -> None:
        """From here on the contexts are examples as well, read from their second token on."""
        first = len(work.examples)
        work.examples, work.starts = work.examples + work.contexts, work.starts + [1] * len(work.contexts)
        work.sequences = [sequence_of(each) for each in work.examples]
        lengths = [len(each) for each in work.contexts]
        for group in alike([(0, length) for length in lengths], lengths):
            chosen = [first + index for index in group]
            with work.draft:
                work.passages.append(opened(self.editor.model, work.sequences, work.starts, chosen, [0] * len(work.examples)))

    def _lookalikes(self, work: _Work, modules: Sequence[EditedModule], positions: Sequence[int]) -> dict[str, torch.Tensor]:
        """The token of each edit's subject in other surroundings: by module, edits × contexts × d_in."""
        before = [token_ids(self.tokenizer, text, "plain") for text in OTHER_SURROUNDINGS]
        tokens: dict[int, int] = {}
        for example, position in zip(work.examples, positions, strict=True):
            tokens.setdefault(example.edit, example.prompt[position])
        sequences = [[*each, tokens[edit]] for edit in sorted(tokens) for each in before]
        with work.draft:
            found = last_inputs(self.editor.model, modules, sequences)
        return {name: x.cpu().view(len(tokens), len(before), -1) for name, x in found.items()}

    def _subject_detectors(
        self, work: _Work, name: str, rows: SlotRows, positions: Sequence[int], lookalikes: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """One detector an edit, for what a block reads at the subject."""
        at_subject = rows.position == torch.tensor(positions)[rows.example]
        owners = torch.tensor([each.edit for each in work.examples])[rows.example[at_subject]]
        is_first = name == f"{self.policy.subject_blocks[0]}.slots"
        lowest = self.policy.lowest_first_threshold if is_first else self.policy.lowest_subject_threshold
        floor = torch.full((len(lookalikes[name]),), lowest)
        return detectors(
            rows.inputs[name][at_subject],
            owners,
            self.background()[name],
            floor,
            self.policy.threshold_margin,
            lookalikes[name],
        )

    def _teach_answers(self, work: _Work, pending: list[int], confidence: float) -> Iterator[str]:
        """Steps over the pending examples (indices) until each is at least this confident, or the passes are used up."""
        modules = self._modules(self.policy.answer_blocks)
        for _ in range(self.policy.answer_passes):
            passages = [chosen for each in work.passages if (chosen := each.of(pending)) is not None]
            with work.draft:
                rows = captured(self.editor.model, modules, work.examples, passages, quick=QUICK_ANSWERS)
            work.passes += 1
            yield "capture"
            if not all(module.name in work.owners for module in modules):
                work.left_out = self._unlike(work, rows)
                self._add_answer_slots(work, rows)
            wanting = rows.confidence < confidence
            wanting[work.left_out] = False
            if not bool(wanting.any()):
                return
            self._polyak_step(work, rows, wanting)
            pending = wanting.nonzero()[:, 0].tolist()
            yield "solve"

    def _unlike(self, work: _Work, rows: SlotRows) -> list[int]:
        """Contexts in which the model reads its question so differently that no slot could serve both: they are not taught."""
        name = self._modules(self.policy.answer_blocks)[0].name
        first = torch.tensor([len(each.prompt) - 1 for each in work.examples])
        at_first = (rows.position == first[rows.example]).nonzero()[:, 0]
        x = torch.empty(len(work.examples), rows.inputs[name].shape[1])
        x[rows.example[at_first]] = rows.inputs[name][at_first]
        own = x[work.shares] @ self.background()[name].precision
        alike = (x[len(x) - len(work.shares) :] * own).sum(1) / (x[work.shares] * own).sum(1)
        return (len(x) - len(work.shares) + (alike < LEAST_ALIKE).nonzero()[:, 0]).tolist()

    def _add_answer_slots(self, work: _Work, rows: SlotRows) -> None:
        """One slot for each token of each answer; an answer's slots serve the contexts of its prompt as well."""
        first = torch.tensor([len(each.prompt) - 1 for each in work.examples])[rows.example]
        says = (rows.position >= first) & ~torch.isin(rows.example, torch.tensor(work.left_out))
        offset = (rows.position - first)[says]
        shared = torch.tensor([*range(len(work.examples) - len(work.shares)), *work.shares])[rows.example[says]]
        of_slot, slot = torch.unique(torch.stack([shared, offset], 1), dim=0, return_inverse=True)
        floor = torch.where(of_slot[:, 1] == 0, self.policy.lowest_threshold, self.policy.lowest_later_threshold)
        edit_of = torch.tensor([each.edit for each in work.examples])[of_slot[:, 0]]
        assert work.unmarked is not None
        places = zip(work.unmarked.example.tolist(), work.unmarked.position.tolist(), strict=True)
        row_of = {place: row for row, place in enumerate(places)}
        unmarked = [row_of[index, len(work.examples[index].prompt) - 1 + offset] for index, offset in of_slot.tolist()]
        for module in self._modules(self.policy.answer_blocks):
            x, lookalikes = rows.inputs[module.name][says], work.unmarked.inputs[module.name][unmarked][:, None]
            made = detectors(
                x, slot, self.background()[module.name], floor, self.policy.threshold_margin, lookalikes, HIGHEST_FOR_UNMARKED
            )
            self._add_slots(work, module.name, made, edit_of)

    def _polyak_step(self, work: _Work, rows: SlotRows, wanting: torch.Tensor) -> None:
        """v -= g loss / sum |g|^2 by edit, over the slots of all answer blocks; no step larger than answer_step."""
        edit_of = torch.tensor([each.edit for each in work.examples])
        edits = int(edit_of.max()) + 1
        loss = torch.zeros(edits).index_add_(0, edit_of[wanting], rows.losses[wanting])
        steepness, slopes = torch.zeros(edits), {}
        for module in self._modules(self.policy.answer_blocks):
            slope = self._slope(work, module.name, rows, None, wanting)
            slopes[module.name] = slope = slope * self.background()[module.name].scale
            steepness.index_add_(0, work.owners[module.name], slope.square().sum(1))
        for name, slope in slopes.items():
            scale = self.background()[name].scale
            step = -(loss / steepness.clamp_min(1e-12))[work.owners[name], None] * slope * scale
            longest = self.policy.answer_step * scale
            self._move(work, name, step * (longest / step.norm(dim=1, keepdim=True).clamp_min(1e-30)).clamp_max(1))

    # --- slots ---------------------------------------------------------------------------------------------------

    def _modules(self, blocks: Sequence[str]) -> list[Any]:
        wanted = {f"{block}.slots" for block in blocks}
        return [each for each in self.editor.modules if each.name in wanted]

    def _add_slots(self, work: _Work, name: str, made: torch.Tensor, owners: torch.Tensor) -> None:
        """New slots with values of zero."""
        with work.draft:
            bank = self.editor.masters[name]
            work.before[name], work.owners[name] = len(bank), owners
            self.editor.masters.add(name, Update(made, torch.zeros(len(made), bank.shape[1] - made.shape[1])))

    def _set_detectors(self, work: _Work, name: str, made: torch.Tensor) -> None:
        with work.draft:
            self.editor.masters[name][work.before[name] :, : made.shape[1]] = made

    def _slope(
        self, work: _Work, name: str, rows: SlotRows, whitener: Whitener | None, wanted: torch.Tensor | None = None
    ) -> torch.Tensor:
        """H^T V over the batch's own slots: S × d_out. wanted: which examples' rows count, (examples,) bool."""
        x, values = rows.inputs[name], rows.gradients[name]
        if wanted is not None:
            x, values = x[wanted[rows.example]], values[wanted[rows.example]]
        with work.draft:
            bank = self.editor.masters[name]
            opened = gates(x, bank[work.before[name] :, : x.shape[1] + 1])
        return opened.T @ (whitener(values) if whitener else values)

    def _move(self, work: _Work, name: str, step: torch.Tensor) -> None:
        with work.draft:
            bank = self.editor.masters[name]
            bank[work.before[name] :, -step.shape[1] :] += step

    def _shut(self, work: _Work, edits: Sequence[int]) -> None:
        """Slots of these edits say nothing any more."""
        for name, owners in work.owners.items():
            with work.draft:
                bank, d_in = self.editor.masters[name], self.background()[name].precision.shape[0]
                bank[work.before[name] :, d_in + 1 :][torch.isin(owners, torch.tensor(edits))] = 0.0

    def _drafted(self, work: _Work, statistics: Statistics, parent: int) -> Proposal:
        updates = {}
        with work.draft:
            for name, start in work.before.items():
                bank, key = self.editor.masters[name][start:], self.background()[name].precision.shape[0] + 1
                updates[name] = Update(bank[:, :key].clone(), bank[:, key:].clone())
        return self._proposal("edit", updates, dict(work.owners), statistics, parent)

    def _proposal(
        self, phase: Phase, updates: dict[str, Update], owners: dict[str, torch.Tensor], statistics: Statistics, parent: int
    ) -> Proposal:
        norms = {name: float(update.right.norm()) for name, update in updates.items()}
        bound = self.editor.config.max_update_norm
        for name, norm in norms.items():
            if not math.isfinite(norm) or not updates[name].is_finite():
                raise NonFiniteUpdateError(f"the update of {name} is NaN or infinite")
            if bound is not None and norm > bound:
                raise UpdateTooLargeError(f"the update of {name} has norm {norm:.3g}, above {bound:.3g}")
        return Proposal(
            updates=updates,
            statistics=statistics,
            phase=phase,
            examples=torch.empty(0, dtype=torch.int64),
            losses=(),
            parent=parent,
            norms=norms,
            examples_by_module=owners,
        )


def _answer_rows(rows: SlotRows, examples: Sequence[Example]) -> Rows:
    """The positions that say the answers alone, as the statistics know them."""
    first = torch.tensor([len(each.prompt) - 1 for each in examples])
    answer = rows.position >= first[rows.example]
    return Rows(
        {name: each[answer] for name, each in rows.inputs.items()},
        {name: each[answer] for name, each in rows.gradients.items()},
        rows.example[answer],
        torch.zeros(int(answer.sum()), dtype=torch.bool),
        float(rows.losses.sum() / answer.sum()),
        len(examples),
    )
