"""Where updates go in a model that nobody has edited yet, and how large a step is: tried on a few facts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from editor_core.errors import CannotEditError, EditorError
from editor_core.modules import resolve_modules
from editor_core.scoped.answering import Asked, answers
from editor_core.scoped.blocks import feed_forward_outputs
from editor_core.scoped.editor import Learned, ScopedEditor, ScopedPolicy, is_target
from editor_core.scoped.encoder import QuestionEncoder
from editor_core.scoped.entry import Entry
from editor_core.scoped.in_force import EditsInForce
from editor_core.scoped.served import ServedEdits
from editor_core.texts import Edit, Format, token_ids

DEPTHS = (0.82, 0.7, 0.9)  # of the number of blocks; the usual one first
STEPS = (1.0, 0.5)  # of a layer's median output norm
LEAST_HELD = 0.75  # of the facts
MOST_NATS = 7.0  # a token of plain text: a random model of 50,000 tokens has 10.8, one of 135 million parameters about 3
_TURNS = ("What is the capital of France?", "The capital of France is Paris.")
# Contexts that no fact is taught in: {} is its question. What is before the last is a system prompt and turns.
UNTAUGHT: tuple[tuple[Format, tuple[str, ...]], ...] = (
    ("chat", ("You are the helpful assistant of a small library. Be polite and precise.", *_TURNS, "Okay, thanks. {}")),
    ("plain", ("Here are some notes that I took at the archive today. It was raining. {}",)),
)
_ROLES = ("system", "user", "assistant", "user")
ANSWER_TOKENS = 48
Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Trial:
    """One choice, and what it was worth.

    held     share of the facts that the model answers with, in every format, to the end
    carried  share of answers that are the fact in contexts that were not taught (`UNTAUGHT`)
    passes   steps a fact took, mean
    norm     Frobenius norm of a fact's update in one module, mean
    """

    blocks: tuple[str, ...]
    step: float
    held: float
    carried: float
    passes: float
    norm: float

    @property
    def rank(self) -> tuple[float, float, float]:
        """The higher the better: facts that hold, contexts that they carry over to, then fewer steps."""
        return self.held, self.carried, -self.passes


def calibrate(
    model: Any,
    tokenizer: Any,
    facts: Sequence[Edit],
    texts: Sequence[str],
    policy: Callable[[float], ScopedPolicy],
    progress: Progress,
) -> list[Trial]:
    """Every choice tried, the best first. policy: for a step.

    Raises CannotEditError, saying why, for what is no language model, or one that learns too few of the facts.
    """
    outputs = feed_forward_outputs(model)
    if not outputs:
        raise CannotEditError("it has no feed-forward outputs known by their name; set ERRATA_UPDATE_BLOCKS")
    nats = nats_a_token(model, tokenizer, texts)
    if not nats < MOST_NATS:
        raise CannotEditError(
            f"it models no text: {nats:.1f} nats a token of plain English, and {MOST_NATS:.0f} at most make sense"
        )
    choices = [(blocks, step) for step in STEPS for blocks in dict.fromkeys(_pair(outputs, depth) for depth in DEPTHS)]
    encoder = QuestionEncoder.load()
    trials: list[Trial] = []
    for done, (blocks, step) in enumerate(choices):
        progress(f"{_short(blocks)}, step {step:g}", done / len(choices))
        trials.append(_tried(model, tokenizer, facts, blocks, policy(step), encoder))
    best = max(trials, key=lambda trial: trial.rank)
    if best.held < LEAST_HELD:
        raise CannotEditError(
            f"it learnt {best.held:.0%} of {len(facts)} facts with the best choice, {_short(best.blocks)}, step {best.step:g}; "
            f"{LEAST_HELD:.0%} are needed"
        )
    return sorted(trials, key=lambda trial: trial.rank, reverse=True)


def _tried(
    model: Any, tokenizer: Any, facts: Sequence[Edit], blocks: tuple[str, ...], policy: ScopedPolicy, encoder: QuestionEncoder
) -> Trial:
    editor = ScopedEditor(model, tokenizer, resolve_modules(model, blocks), policy, encoder)
    try:
        learned = editor.run(list(enumerate(facts, 1)), EditsInForce()).finish()
    except EditorError:
        return Trial(blocks, policy.update.step, 0.0, 0.0, float(policy.update.passes), math.nan)
    norms = [each.record.updates[blocks[0]].norm() for each in learned if each.record.updates]
    return Trial(
        blocks,
        policy.update.step,
        sum(each.is_held for each in learned) / len(learned),
        carried_over(editor, facts, learned),
        sum(each.taught.passes for each in learned) / len(learned),
        sum(norms) / max(len(norms), 1),
    )


def carried_over(editor: ScopedEditor, facts: Sequence[Edit], learned: Sequence[Learned]) -> float:
    """Share of whole answers that are the fact, of all facts in all untaught contexts of the editor's formats."""
    tokenizer = editor.tokenizer
    records = {f"{number:064x}": each.record for number, each in enumerate(learned, 1)}
    served = ServedEdits(editor.rules, editor.modules, lambda name: records[name].to_bytes())
    served.state = EditsInForce.of((int(name, 16), Entry.of(name, each.address)) for name, each in records.items())
    contexts = [each for each in UNTAUGHT if each[0] in editor.policy.formats]
    asked = [
        Asked(tuple(token_ids(tokenizer, _written(tokenizer, texts, fact.prompt), format)), ANSWER_TOKENS)
        for format, texts in contexts
        for fact in facts
    ]
    said = answers(editor.model, tokenizer, asked, served)
    wanted = [(fact.target, format) for format, _ in contexts for fact in facts]
    return sum(
        is_target(one.text, target, format, editor.policy.chat_wording)
        for one, (target, format) in zip(said, wanted, strict=True)
    ) / len(said)


def _written(tokenizer: Any, texts: Sequence[str], prompt: str) -> str:
    if len(texts) == 1:
        return texts[0].replace("{}", prompt)
    turns = [{"role": role, "content": text.replace("{}", prompt)} for role, text in zip(_ROLES, texts, strict=True)]
    try:
        return str(tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))
    except Exception:  # a template without system prompts
        return str(tokenizer.apply_chat_template(turns[1:], add_generation_prompt=True, tokenize=False))


@torch.no_grad()
def nats_a_token(model: Any, tokenizer: Any, texts: Sequence[str]) -> float:
    """Mean negative log likelihood of plain texts."""
    total, count = 0.0, 0
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"]], device=model.device)
        if ids.shape[1] < 2:
            continue
        logits = model(input_ids=ids).logits[0, :-1].float()
        total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    return total / max(count, 1)


def _pair(outputs: Sequence[str], depth: float) -> tuple[str, ...]:
    first = max(min(int(depth * len(outputs)), len(outputs) - 2), 0)
    return tuple(outputs[first : first + 2])


def _short(blocks: Sequence[str]) -> str:
    return "blocks " + ", ".join(next(part for part in name.split(".") if part.isdecimal()) for name in blocks)
