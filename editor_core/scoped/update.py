"""The update: StableEdit's closed-form step on a few late feed-forward outputs, for one edit alone.

A row is a token of the answer in a format. Its key h is the mean of what the layer reads at that token over all contexts
taught. Its target row is V = -step * s * mean(sqrt(1 - p) g / |g|): g is the loss gradient at the layer's output, s the median
norm of that output, p the token's probability. Delta = K^T (K K^T + alpha I)^(-1) V, summed over passes until every token is
as likely as asked; a token that stays behind in one context gets a row of its own. With 1 - p for its root the last steps get
short, and one in three facts needs a third. With a whitener g is decorrelated first by the lifelong covariance, as the
published method does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from editor_core.breathing import breathe
from editor_core.capture import Tap, answer_logits, frozen
from editor_core.errors import NonFiniteUpdateError
from editor_core.loss import answer_loss
from editor_core.modules import EditedModule
from editor_core.passages import Passage, from_block
from editor_core.scoped.contexts import Context, Contexts
from editor_core.scoped.reading import ContextReader
from editor_core.span import IGNORED_LABEL, Span
from editor_core.texts import Format
from editor_core.update import Update

SPLIT_AFTER = (3, 5, 7, 9, 11)  # passes: most edits need two or three

Whitener = Callable[[EditedModule, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class UpdatePolicy:
    """How an edit's update is found.

    step        norm of a full step, as a share of the layer's median output norm
    ridge       alpha, as a share of the mean diagonal of K K^T
    confidence  probability that every token of the answer is to have, in every context
    passes      at most this many steps
    """

    step: float = 1.0
    ridge: float = 0.02
    confidence: float = 0.95
    passes: int = 20


@dataclass(frozen=True, slots=True)
class Taught:
    """What teaching one edit came to.

    updates     by module: as records keep them; empty where the model knew the answer
    rows        what the statistics are to see, by module: keys N x d_in and gradients N x d_out, float32, of the first pass
    passes      steps taken
    least_sure  the least probability of a token of the answer over all contexts, as the update is kept
    exact       by context: whether greedy continuation is the answer, to its end
    """

    updates: dict[str, Update]
    rows: dict[str, tuple[torch.Tensor, torch.Tensor]]
    passes: int
    least_sure: float
    exact: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is to be said in a passage: B x A labels, where they are, and for each of the N of them its token and its row."""

    labels: torch.Tensor
    mask: torch.Tensor
    tokens: torch.Tensor
    row: torch.Tensor
    rows: int

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Of N values, by row: rows x d."""
        total = torch.zeros(self.rows, values.shape[1]).index_add_(0, self.row, values)
        return total / torch.bincount(self.row, minlength=self.rows).clamp_min(1)[:, None]

    def split(self, unsure: torch.Tensor) -> _Asked:
        """With a row of its own for every token that is unsure (N bool) and shares its row with others."""
        shared = torch.bincount(self.row, minlength=self.rows)[self.row] > 1
        apart = (unsure & shared).nonzero()[:, 0]
        row = self.row.clone()
        row[apart] = torch.arange(self.rows, self.rows + len(apart))
        return replace(self, row=row, rows=self.rows + len(apart))


class Teacher:
    """Finds updates for named modules of one model, which is left as it was.

    modules   in the model's order; blocks before the first are run once an edit
    whitener  decorrelates gradients, N x d_out, of a module; None takes them as they are
    """

    def __init__(
        self, model: nn.Module, modules: Sequence[EditedModule], policy: UpdatePolicy, whitener: Whitener | None = None
    ) -> None:
        self._model: Any = model
        self.modules, self.policy, self.whitener = tuple(modules), policy, whitener
        self._reader = ContextReader(model, self.modules[0].name)

    def teach(self, contexts: Contexts) -> Taught:
        """Raises NonFiniteUpdateError when the loss is not a number."""
        with frozen(self._model):
            passage = self._reader.read(contexts)
            asked = _asked(passage, contexts.taught, contexts.answers)
            coefficients: dict[str, torch.Tensor] = {}
            keys: dict[str, torch.Tensor] = {}
            rows: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
            for passes in range(self.policy.passes + 1):
                breathe()
                kept = _kept(keys, coefficients)
                seen = self._seen(passage, asked, kept, is_last=passes == self.policy.passes)
                if not seen.modules:
                    break
                if passes in SPLIT_AFTER:
                    asked = asked.split(seen.sure <= self.policy.confidence)
                self._step(asked, seen, keys, coefficients, rows)
        return Taught(kept, rows, passes, float(seen.sure.min()), _exact(passage, asked, seen.right))

    def _seen(self, passage: Passage, asked: _Asked, updates: Mapping[str, Update], *, is_last: bool) -> _Seen:
        """One pass: differentiated unless it is the last, or every token is as likely as it is to be."""
        with ExitStack() as stack, torch.enable_grad():
            taps = self._tapped(passage, asked, updates, stack)
            logits = answer_logits(self._model, Span(passage.inputs(), asked.labels), asked.mask, stack)
            losses, certain = answer_loss(logits, asked.tokens)
            if not bool(torch.isfinite(losses).all()):
                raise NonFiniteUpdateError("the loss is not a finite number: the model answers with NaN or infinity")
            sure, right = (-losses.detach()).exp(), certain > 0
            if is_last or bool((sure > self.policy.confidence).all()):
                return _Seen((), sure, right)
            gradients = torch.autograd.grad(losses.sum(), [tap.output for tap in taps if tap.output is not None])
        found = zip(taps, gradients, strict=True)
        return _Seen(tuple((tap.keys, each[asked.mask].float()) for tap, each in found if tap.keys is not None), sure, right)

    def _step(
        self,
        asked: _Asked,
        seen: _Seen,
        keys: dict[str, torch.Tensor],
        coefficients: dict[str, torch.Tensor],
        rows: dict[str, tuple[torch.Tensor, torch.Tensor]],
    ) -> None:
        for module, (read, gradients) in zip(self.modules, seen.modules, strict=True):
            name = module.name
            if name not in keys:
                rows[name] = (read, gradients)
                keys[name], coefficients[name] = read[:0], gradients[:0]
            if (new := asked.rows - len(keys[name])) > 0:
                keys[name] = torch.cat([keys[name], asked.mean(rows[name][0])[-new:]])
                coefficients[name] = torch.cat([coefficients[name], torch.zeros(new, module.d_out)])
            directions = gradients if self.whitener is None else self.whitener(module, gradients)
            step = asked.mean((1 - seen.sure).sqrt()[:, None] * functional.normalize(directions, dim=1))
            scale = module.product(rows[name][0]).norm(dim=1).median()
            target = -self.policy.step * scale * step
            coefficients[name] = coefficients[name] + ridge(keys[name], target, self.policy.ridge)

    def _tapped(self, passage: Passage, asked: _Asked, updates: Mapping[str, Update], stack: ExitStack) -> list[Tap]:
        """Have the model run from the first edited block on with these updates, and hear what its modules read."""
        stack.enter_context(from_block(self._model, self.modules[0].name, passage))
        taps = []
        for each in self.modules:
            if each.name in updates:
                stack.callback(each.module.register_forward_hook(_adding(updates[each.name])).remove)
            taps.append(Tap(asked.mask))
            stack.callback(each.module.register_forward_hook(taps[-1]).remove)
        return taps


@dataclass(frozen=True, slots=True)
class _Seen:
    """Of one pass, N tokens of answers.

    modules  keys N x d_in and gradients N x d_out, float32, of every module; none where nothing was differentiated
    sure     N, the tokens' probabilities
    right    N bool, whether each is the most likely token
    """

    modules: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    sure: torch.Tensor
    right: torch.Tensor


def ridge(keys: torch.Tensor, target: torch.Tensor, share: float) -> torch.Tensor:
    """(K K^T + alpha I)^(-1) V, alpha a share of the mean diagonal. keys R x d_in, target R x d_out; returns R x d_out."""
    gram = keys.double() @ keys.double().T
    gram.diagonal().add_(share * float(gram.diagonal().mean()))
    found: torch.Tensor = torch.linalg.solve(gram, target.double())
    return found.float()


def _kept(keys: Mapping[str, torch.Tensor], coefficients: Mapping[str, torch.Tensor]) -> dict[str, Update]:
    return {name: Update(each, coefficients[name]).rounded() for name, each in keys.items()}


def _exact(passage: Passage, asked: _Asked, right: torch.Tensor) -> tuple[bool, ...]:
    """By context: whether all of its tokens are right."""
    found = torch.ones_like(asked.mask)
    found[asked.mask] = right
    by_context = dict(zip(passage.chosen, found.all(1).tolist(), strict=True))
    return tuple(by_context[index] for index in range(len(by_context)))


def _adding(update: Update) -> Callable[..., torch.Tensor]:
    def add(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        return output + ((inputs[0].to(update.left.dtype) @ update.left.T) @ update.right).to(output.dtype)

    return add


def _asked(passage: Passage, taught: Sequence[Context], answers: Mapping[Format, tuple[int, ...]]) -> _Asked:
    labels, rows = torch.full(passage.ids.shape, IGNORED_LABEL), torch.zeros(passage.ids.shape, dtype=torch.int64)
    numbers: dict[tuple[Format, int], int] = {}
    for place, index in enumerate(passage.chosen):
        format = taught[index].format
        for offset, token in enumerate(answers[format]):
            labels[place, offset] = token
            rows[place, offset] = numbers.setdefault((format, offset), len(numbers))
    mask = labels != IGNORED_LABEL
    return _Asked(labels, mask, labels[mask], rows[mask], len(numbers))
