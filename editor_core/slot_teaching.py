"""Teaching: marks on subjects first, then answers where the marks arrive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from editor_core.background import Background
from editor_core.capture import Rows
from editor_core.change import NOBODY
from editor_core.editor import Editor
from editor_core.modules import EditedModule
from editor_core.normalise import Whitener
from editor_core.passages import Passage, advanced, alike, joined, opened, rewound
from editor_core.precision import quick_products
from editor_core.slot_batch import SlotBatch
from editor_core.slot_capture import SlotRows, Token, captured, last_inputs, prompts_read, sequence_of
from editor_core.slot_keys import LEAST_ALIKE, SHUT, by_owner, detectors, subject_positions
from editor_core.slot_policy import SlotPolicy
from editor_core.slots import gates
from editor_core.surroundings import NAME_SURROUNDINGS, OTHER_SURROUNDINGS, Name, Surroundings
from editor_core.texts import Example, template_tokens, token_ids

WHITENING_FLOOR = 1e-4  # of the largest eigenvalue of Sigma_v
SUBJECT_SHARPNESS = 2.0  # of detectors at subjects: the width of the ramp between shut and open is divided by it
OTHERS_WEIGHT = 10.0  # of what is read of another edit of the batch, in inputs of the background
MARKED = 0.5  # how far a slot opens at a subject that bears its mark
FAINT_MARK = 0.6  # a prompt's end scores at least so much without the mark where its slot would open for the wording
FURTHER_MARKS = 4  # steps at most for marks that have not arrived
UNEVEN = 1.5  # the highest score of a slot's own inputs, the lowest being 1, with which all of them are its own
OVERRELAXED = (
    2.0  # Polyak's step aims at a loss of 0 along a straight line; of cross-entropy it gains about half of what is missing
)
HIGHEST_TO_DECIDE = 0.9  # threshold of a subject slot in the first block
HIGHEST_FOR_UNMARKED = 0.6  # the threshold that shuts an answer's slot to its own question without the mark, where one can


class SlotTeacher:
    """Makes and fits the slots of batches. Each method that takes steps yields the phase of each of them."""

    def __init__(self, editor: Editor, tokenizer: Any, policy: SlotPolicy, background: Background) -> None:
        self.editor, self.tokenizer, self.policy, self.background = editor, tokenizer, policy, background

    def read(self, batch: SlotBatch) -> SlotRows:
        """Every prompt is read once; what follows branches off the model's cache of it."""
        batch.sequences = [sequence_of(each) for each in batch.examples]
        batch.passages, read = self._prompts_read(batch)
        return read

    def _prompts_read(self, batch: SlotBatch) -> tuple[list[Passage], SlotRows]:
        modules = batch.modules(self.policy.subject_blocks)
        beginnings = self._beginnings(batch.examples)
        return prompts_read(self.editor.model, modules, batch.examples, range(len(batch.examples)), beginnings)

    def _beginnings(self, examples: Sequence[Example]) -> list[int]:
        """How many first tokens of each are the chat template's own."""
        known = {format: template_tokens(self.tokenizer, format) for format in self.policy.formats}
        return [known[each.format] for each in examples]

    def read_again(self, batch: SlotBatch, pending: Sequence[int]) -> None:
        """Teach the pending examples over their whole prompts from here on: what is being taught may open in them as well."""
        beginnings = self._beginnings(batch.examples)
        batch.starts = [max(each, 1) for each in beginnings]
        lengths = [len(batch.sequences[index]) for index in pending]
        order = [(beginnings[index], length) for index, length in zip(pending, lengths, strict=True)]
        with batch.draft, quick_products(batch.passages[0].ids.device):
            groups = [[pending[member] for member in group] for group in alike(order, lengths)]
            read = [opened(self.editor.model, batch.sequences, batch.starts, group, beginnings) for group in groups]
        batch.passages = joined(read)

    def teach_subjects(self, batch: SlotBatch, read: SlotRows) -> Iterator[str]:
        modules = batch.modules(self.policy.subject_blocks)
        positions = subject_positions(self.tokenizer, batch.examples, read, self.background[modules[0].name], modules[0].name)
        around = self._surroundings(batch, modules[0], positions)
        batch.starts = [max(position, 1) for position in positions]
        deciding, *following = modules
        batch.first = around.first_named()
        marked = around.named_before() | self._marked_before(batch, deciding, read, positions)
        for module in modules:
            if module is deciding:
                made = self._deciding_detectors(batch, module.name, read, positions, around)
            else:
                made = self._following_detectors(batch, module.name, read, positions, around)
            batch.add(module.name, shut_where(marked, made), torch.arange(len(made)))
        batch.passages = [rewound(each, batch.sequences, batch.starts) for each in batch.passages]
        speed = {each.name: torch.zeros(len(batch.owners[each.name]), each.d_out) for each in modules}
        arrival = batch.modules(self.policy.answer_blocks)[0]
        edit_of = torch.tensor([each.edit for each in batch.examples])
        whitener: Whitener | None = None
        pending: Sequence[int] = range(len(batch.examples))
        for number in range(self.policy.subject_passes + FURTHER_MARKS):
            # the first pass watches every bank: the statistics see each fact once, before it is taught
            watched = self.editor.modules if number == 0 else [*modules, arrival]
            passages = [chosen for each in batch.passages if (chosen := each.of(pending)) is not None]
            with batch.draft:
                rows = captured(self.editor.model, watched, batch.examples, passages, quick=True)
            yield "capture"
            if number == 0:
                batch.rows = [answer_rows(rows, batch.examples)]
                batch.unmarked = rows
                estimate = self.editor.observe(batch.rows)[modules[0].shape]
                whitener = Whitener.of(estimate, WHITENING_FLOOR) if estimate.covariance_is_determined else None
            elif number < self.policy.subject_passes:
                for module in following:  # the marks made so far are in the inputs of the blocks after them
                    made = self._following_detectors(batch, module.name, rows, positions, around)
                    batch.set_detectors(module.name, shut_where(marked, made))
            run = torch.zeros(len(around.names), 1).index_fill_(0, edit_of[list(pending)], 1.0)
            for module in modules:
                slope = batch.slope(module.name, rows, whitener)
                step = slope / slope.norm(dim=1, keepdim=True).clamp_min(1e-30)
                size = self.policy.subject_step * self.background[module.name].scale
                speed[module.name] = run * (self.policy.momentum * speed[module.name] - size * step)
                batch.move(module.name, speed[module.name])
            if number + 1 >= self.policy.subject_passes:
                pending = self._unarrived(batch, rows, arrival.name, pending)
            batch.passes += 1
            yield "solve"
            if not pending:
                break
        batch.starts = [len(each.prompt) - 1 for each in batch.examples]  # only what is said changes from here on
        with batch.draft, quick_products(batch.passages[0].ids.device):
            batch.passages = [advanced(self.editor.model, each, batch.sequences, batch.starts) for each in batch.passages]

    def _unarrived(self, batch: SlotBatch, rows: SlotRows, name: str, pending: Sequence[int]) -> list[int]:
        """Of the pending examples, those of edits whose mark hardly changes what an answer block reads at the prompt's end."""
        assert batch.unmarked is not None
        ends = torch.tensor([len(each.prompt) - 1 for each in batch.examples])
        now, before = (_at(each, name, ends) for each in (rows, batch.unmarked))
        keys = now @ self.background[name].precision
        alike = (keys * before).sum(1) / (keys * now).sum(1)
        faint = {batch.examples[index].edit for index in pending if alike[index] > FAINT_MARK}
        return [index for index in pending if batch.examples[index].edit in faint]

    def add_contexts(self, batch: SlotBatch) -> None:
        """From here on the contexts are examples as well."""
        first = len(batch.examples)
        batch.examples = batch.examples + batch.contexts
        batch.starts = [len(each.prompt) - 1 for each in batch.examples]
        batch.sequences = [sequence_of(each) for each in batch.examples]
        lengths = [len(each) for each in batch.contexts]
        for group in alike([(0, length) for length in lengths], lengths):
            chosen = [first + index for index in group]
            with batch.draft, quick_products(batch.passages[0].ids.device):
                batch.passages.append(
                    opened(self.editor.model, batch.sequences, batch.starts, chosen, [0] * len(batch.examples))
                )
        batch.passages = joined(batch.passages)

    def _surroundings(self, batch: SlotBatch, first: EditedModule, positions: Sequence[int]) -> Surroundings:
        """What ends each edit's name in other surroundings, and the whole name in some: where no name is found, its last token
        alone, and nothing."""
        names: dict[int, Name] = {}
        for example, position in zip(batch.examples, positions, strict=True):
            if example.edit not in names:
                names[example.edit] = Name.ending_at(self.tokenizer, example.prompt, position)
        edits = [names[edit] for edit in sorted(names)]
        before = [token_ids(self.tokenizer, text, "plain") for text in OTHER_SURROUNDINGS]
        endings = [[*each, *name.ending] for name in edits for each in before]
        ended = torch.tensor([bool(name.ending) for name in edits])[:, None, None]
        whole = [token_ids(self.tokenizer, f"{words} {name.text}", "plain") for name in edits for words in NAME_SURROUNDINGS]
        with batch.draft:
            at_endings = last_inputs(self.editor.model, first, endings).view(len(edits), len(before), -1)
            at_names = last_inputs(self.editor.model, first, whole).view(len(edits), len(NAME_SURROUNDINGS), -1)
        return Surroundings(at_endings * ended, at_names, edits)

    def _deciding_detectors(
        self, batch: SlotBatch, name: str, read: SlotRows, positions: Sequence[int], around: Surroundings
    ) -> torch.Tensor:
        """One detector an edit, for what the first subject block reads at the subject: it decides, by the words alone."""
        x, owners = self._at_subjects(batch, name, read, positions)
        earlier = self._earlier(batch, name, SUBJECT_SHARPNESS)
        edit_of = torch.tensor([each.edit for each in batch.examples])[read.example]
        apart = torch.cat([around.other_names()[:, edit_of], torch.ones(len(around.names), len(earlier), dtype=torch.bool)], 1)
        return SUBJECT_SHARPNESS * detectors(
            x,
            owners,
            self.background[name].against(read.inputs[name], OTHERS_WEIGHT),
            torch.full((len(around.names),), self.policy.lowest_first_threshold),
            self.policy.threshold_margin,
            around.endings,
            around.names_beside(x, owners),
            torch.cat([read.inputs[name], earlier]),
            apart,
            highest=HIGHEST_TO_DECIDE,
        )

    def _marked_before(
        self, batch: SlotBatch, deciding: EditedModule, read: SlotRows, positions: Sequence[int]
    ) -> torch.Tensor:
        """Which edits' subjects bear a mark already, in every example: one is enough, and a second would blur the first."""
        x, owners = self._at_subjects(batch, deciding.name, read, positions)
        with batch.draft:
            opened = gates(x, self.editor.masters[deciding.name][:, : deciding.d_in + 1].cpu())
            marked_by = self.editor.masters.owners[deciding.name]
        open_enough = (opened > MARKED).any(1) if opened.shape[1] else torch.zeros(len(x), dtype=torch.bool)
        shut = torch.zeros(int(owners.max()) + 1).index_add_(0, owners, (~open_enough).float())
        for edit in (shut == 0).nonzero()[:, 0].tolist():
            bearing = (opened[owners == edit] > MARKED).any(0)
            batch.leans[edit] = frozenset(marked_by[bearing].tolist()) - {NOBODY}
        return shut == 0

    def _earlier(self, batch: SlotBatch, name: str, sharpness: float = 1.0) -> torch.Tensor:
        """Keys of the slots that a bank has from earlier batches, E × d_in."""
        block = self.background[name]
        with batch.draft:
            return block.keys(self.editor.masters[name][:, : block.inputs.shape[1]].cpu() / sharpness)

    def _following_detectors(
        self, batch: SlotBatch, name: str, rows: SlotRows, positions: Sequence[int], around: Surroundings
    ) -> torch.Tensor:
        """The same for a block after it, which is to open for that mark, and so neither without it nor for another edit's.

        Before there are marks, for what the block reads at the subject.
        """
        x, owners = self._at_subjects(batch, name, rows, positions)
        background, unmarked = self.background[name], None
        if batch.unmarked is not None:
            unmarked, _ = by_owner(*self._at_subjects(batch, name, batch.unmarked, positions), len(around.names))
            background = background.against(x, OTHERS_WEIGHT)  # marks have much in common
            batch.marked[name] = x
        return SUBJECT_SHARPNESS * detectors(
            x,
            owners,
            background,
            torch.full((len(around.names),), self.policy.lowest_subject_threshold),
            self.policy.threshold_margin,
            unmarked,
            others=batch.marked.get(name),
            apart=around.other_names()[:, owners],
        )

    def _at_subjects(
        self, batch: SlotBatch, name: str, rows: SlotRows, positions: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What a block reads at the subject of every example: N × d_in, and its edit, (N,)."""
        at_subject = rows.position == torch.tensor(positions)[rows.example]
        owners = torch.tensor([each.edit for each in batch.examples])[rows.example[at_subject]]
        return rows.inputs[name][at_subject], owners

    def teach_answers(self, batch: SlotBatch, pending: Sequence[int], confidence: float, passes: int) -> Iterator[str]:
        """At most `passes` steps over the pending examples (indices), until each is at least this confident."""
        modules = batch.modules(self.policy.answer_blocks)
        done: set[Token] = set()
        pace = Pace(1 + max(each.edit for each in batch.examples))
        for _ in range(passes):
            passages = [chosen for each in batch.passages if (chosen := each.of(pending)) is not None]
            with batch.draft:
                rows = captured(self.editor.model, modules, batch.examples, passages, quick=True, done=done)
            batch.passes += 1
            yield "capture"
            if not all(module.name in batch.owners for module in modules):
                batch.left_out = self._unlike(batch, rows)
                self._add_answer_slots(batch, rows)
            wanting = rows.confidence < confidence
            wanting[batch.left_out] = False
            if not bool(wanting.any()):
                return
            self._polyak_step(batch, rows, wanting, pace)
            done |= {token for token, probability in rows.sure.items() if probability >= confidence}
            pending = wanting.nonzero()[:, 0].tolist()
            yield "solve"

    def _unlike(self, batch: SlotBatch, rows: SlotRows) -> list[int]:
        """Contexts in which the model reads its question so differently that no slot could serve both: they are not taught."""
        name = batch.modules(self.policy.answer_blocks)[0].name
        x = _at(rows, name, torch.tensor([len(each.prompt) - 1 for each in batch.examples]))
        own = x[batch.shares] @ self.background[name].precision
        alike = (x[len(x) - len(batch.shares) :] * own).sum(1) / (x[batch.shares] * own).sum(1)
        return (len(x) - len(batch.shares) + (alike < LEAST_ALIKE).nonzero()[:, 0]).tolist()

    def _add_answer_slots(self, batch: SlotBatch, rows: SlotRows) -> None:
        """One slot for each token of each answer; an answer's slots serve the contexts of its prompt as well."""
        first = torch.tensor([len(each.prompt) - 1 for each in batch.examples])[rows.example]
        says = (rows.position >= first) & ~torch.isin(rows.example, torch.tensor(batch.left_out))
        offset = (rows.position - first)[says]
        shared = torch.tensor([*range(len(batch.examples) - len(batch.shares)), *batch.shares])[rows.example[says]]
        of_slot, slot = torch.unique(torch.stack([shared, offset], 1), dim=0, return_inverse=True)
        floor = torch.where(of_slot[:, 1] == 0, self.policy.lowest_threshold, self.policy.lowest_later_threshold)
        edit_of = torch.tensor([each.edit for each in batch.examples])[of_slot[:, 0]]
        assert batch.unmarked is not None
        places = zip(batch.unmarked.example.tolist(), batch.unmarked.position.tolist(), strict=True)
        row_of = {place: row for row, place in enumerate(places)}
        unmarked = [row_of[index, len(batch.examples[index].prompt) - 1 + offset] for index, offset in of_slot.tolist()]
        in_context = rows.example[says] >= len(batch.examples) - len(batch.shares)
        for module in batch.modules(self.policy.answer_blocks):
            x, kept = rows.inputs[module.name][says], torch.ones(len(slot), dtype=torch.bool)
            for _ in range(2):
                made = detectors(
                    x[kept],
                    slot[kept],
                    self.background[module.name],
                    floor,
                    self.policy.threshold_margin,
                    batch.unmarked.inputs[module.name][unmarked][:, None],
                    others=self._earlier(batch, module.name),
                    highest_for_lookalikes=HIGHEST_FOR_UNMARKED,
                )
                # a slot whose own inputs are far apart rests on little: it does without the context
                highest = torch.zeros(len(made)).scatter_reduce_(0, slot, (x * made[slot, :-1]).sum(1), "amax")
                if not bool((uneven := (highest > UNEVEN)[slot] & in_context & kept).any()):
                    break
                kept &= ~uneven
            batch.add(module.name, made, edit_of)

    def _polyak_step(self, batch: SlotBatch, rows: SlotRows, wanting: torch.Tensor, pace: Pace) -> None:
        """v -= pace g loss / sum |g|^2 by edit, over the slots of all answer blocks; no step larger than answer_step."""
        edit_of = torch.tensor([each.edit for each in batch.examples])
        loss = torch.zeros(len(pace.factor)).index_add_(0, edit_of[wanting], rows.losses[wanting])
        far = loss * pace.at(loss)
        steepness, slopes = torch.zeros(len(loss)), {}
        for module in batch.modules(self.policy.answer_blocks):
            slope = batch.slope(module.name, rows, None, wanting)
            slopes[module.name] = slope = slope * self.background[module.name].scale
            steepness.index_add_(0, batch.owners[module.name], slope.square().sum(1))
        for name, slope in slopes.items():
            scale = self.background[name].scale
            step = -(far / steepness.clamp_min(1e-12))[batch.owners[name], None] * slope * scale
            longest = self.policy.answer_step * scale
            batch.move(name, step * (longest / step.norm(dim=1, keepdim=True).clamp_min(1e-30)).clamp_max(1))


class Pace:
    """How many times as far as Polyak's rule each edit steps: twice, and half as far again whenever its loss has risen.

    The rule follows the loss along a straight line; cross-entropy then gains about half of what is missing.
    """

    def __init__(self, edits: int) -> None:
        self.factor = torch.full((edits,), OVERRELAXED)
        self._before = torch.full((edits,), torch.inf)

    def at(self, loss: torch.Tensor) -> torch.Tensor:
        """The factors for steps at these losses, (edits,)."""
        self.factor = torch.where(loss > self._before, self.factor / 2, self.factor)
        self._before = loss
        return self.factor


def _at(rows: SlotRows, name: str, positions: torch.Tensor) -> torch.Tensor:
    """What a block reads at one position of each example, (examples × d_in); zeros for examples that were not run."""
    there = rows.position == positions[rows.example]
    found = torch.zeros(len(positions), rows.inputs[name].shape[1])
    found[rows.example[there]] = rows.inputs[name][there]
    return found


def shut_where(marked: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
    """The same detectors, those of the marked edits (edits,) opened by nothing."""
    made[marked, -1] = SHUT * SUBJECT_SHARPNESS
    return made


def answer_rows(rows: SlotRows, examples: Sequence[Example]) -> Rows:
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
