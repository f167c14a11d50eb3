"""Answering on the model thread, step by step, with editing in between: who goes first, and when weights may change."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import structlog

from editor_core.generation import Batcher, News, Sequence
from service import metrics
from service.settings import Settings
from service.worker.model_thread import ModelThread
from service.worker.modes import Resident
from service.worker.scoped.resident import ScopedModel

log = structlog.get_logger()
Told = list[tuple[Sequence, News]]


@dataclass(slots=True, eq=False)
class Ticket:
    """A sequence on its way through. `told` is called on the event loop with everything new, `failed` at most once.

    Times are monotonic seconds of this process.
    """

    sequence: Sequence
    told: Callable[[News], None]
    failed: Callable[[str, str], None]
    sent_at: float
    deadline: float
    began_at: float = 0.0
    last_token_at: float = 0.0
    tokens: int = field(default=0)


class Engine:
    """One batcher and the loop that drives it."""

    def __init__(self, resident: Resident, thread: ModelThread, settings: Settings) -> None:
        self._resident, self._thread, self._settings = resident, thread, settings
        self._batcher: Batcher | None = None
        self._tickets: dict[str, Ticket] = {}
        self._arrived: list[Ticket] = []
        self._cancelled: set[str] = set()
        self._failed: list[tuple[str, Exception]] = []  # sequences that leave alone
        self._wake, self._stepped = asyncio.Event(), asyncio.Condition()
        self._owed_s = 0.0  # of the model's time, to the answers
        self._holding = False
        self._under_way = 0  # sequences that hold a row, or are about to: the batcher itself may be at a step
        thread.readers = self

    @property
    def load(self) -> int:
        """Sequences that wait or run."""
        return len(self._tickets)

    def submit(self, ticket: Ticket) -> None:
        self._tickets[ticket.sequence.id] = ticket
        self._arrived.append(ticket)
        self._wake.set()

    def cancel(self, id: str) -> bool:
        """Nobody waits for it any more: its place is free within a step. False where it is not here."""
        if self._tickets.pop(id, None) is None:
            return False
        metrics.REQUEST_SUCCESS.labels("abort").inc()
        self._cancelled.add(id)
        self._wake.set()
        return True

    def edited(self, took_s: float) -> bool:
        """Editing had the model for so many more seconds; whether a step is due. Nothing is owed while nobody asks."""
        share = self._settings.edit_share
        self._owed_s = self._owed_s + took_s * (1 - share) / share if self._wanted() else 0.0
        return self._owed_s > 0

    async def turn(self) -> None:
        """Wait until answers have had what they are owed, or nobody wants one."""
        async with self._stepped:
            await self._stepped.wait_for(lambda: self._owed_s <= 0 or not self._wanted())

    @contextlib.asynccontextmanager
    async def window(self) -> AsyncIterator[None]:
        """In which weights may change: new questions wait, those under way get until the limit to finish."""
        began = time.perf_counter()
        self._holding = True
        self._wake.set()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.drain_limit_s), self._stepped:
                    await self._stepped.wait_for(lambda: not self._under_way)
            metrics.DRAIN_SECONDS.observe(time.perf_counter() - began)
            yield
        finally:
            self._holding = False
            self._wake.set()

    async def run(self) -> None:
        """For as long as the worker serves. The next step has begun before anybody is told of the last."""
        self._batcher = await self._thread.answer(self._new_batcher)
        told: Told = []
        while True:
            step = asyncio.ensure_future(self._next_step()) if self._wants_step() else None
            await asyncio.sleep(0)  # on its way
            for sequence, news in told:
                self._tell(sequence, news)
            self._count()
            await self._tell_waiters()
            if step is not None:
                told = await step
                continue
            told = []
            self._wake.clear()
            if not self._wants_step():
                await self._wake.wait()

    def _wants_step(self) -> bool:
        return bool(self._arrived or self._cancelled or self._can_go_on())

    def _new_batcher(self) -> Batcher:
        settings = self._settings
        return Batcher(
            self._resident.model,
            rows=settings.max_running,
            kept_tokens=settings.kept_tokens,
            prefill_tokens=settings.prefill_tokens,
            edits=self._resident.served if isinstance(self._resident, ScopedModel) else None,
        )

    async def _next_step(self) -> Told:
        """What comes of one step. A step that fails takes its sequences with it, not the worker."""
        assert self._batcher is not None
        arrived, self._arrived = self._arrived, []
        cancelled, self._cancelled = self._cancelled, set()
        expired = [id for id, ticket in self._tickets.items() if ticket.deadline < time.monotonic()]
        for id in expired:
            self._fail(id, "generation_timed_out", "the model did not get to the end in time")
        if not self._holding:
            coming = self._under_way + len(arrived) + len(self._batcher.waiting)
            self._under_way = min(coming, self._settings.max_running)
        try:
            told = await self._thread.answer(self._step, arrived, cancelled | set(expired), self._holding, time.perf_counter())
        except Exception as error:  # askers must hear of it, whatever it is
            log.exception("generation failed")
            self._batcher = await self._thread.answer(self._new_batcher)
            self._arrived.clear()  # whoever came meanwhile is told as well
            for id in list(self._tickets):
                self._fail(id, "generation_failed", f"{type(error).__name__}: {error}")
            told = []
        failed, self._failed = self._failed, []
        for id, reason in failed:
            log.error("a question failed", error=type(reason).__name__, detail=str(reason)[:500])
            if id in self._tickets:
                self._fail(id, "generation_failed", f"{type(reason).__name__}: {reason}")
        self._under_way = self._batcher.under_way
        return told

    def _step(self, arrived: list[Ticket], gone: set[str], holding: bool, asked_at: float) -> Told:
        """On the model thread, so the revision read here is the one that answers."""
        assert self._batcher is not None
        began = time.perf_counter()
        metrics.STEP_WAIT_SECONDS.observe(began - asked_at)
        self._batcher.holding = holding
        for ticket in arrived:
            self._batcher.add(ticket.sequence)
        self._batcher.remove(gone)
        stepped = self._batcher.step(self._resident.revision)
        told: Told = []
        for each in stepped:
            try:
                if each.failure is not None:
                    raise each.failure
                told.append((each, each.news()))
            except Exception as error:
                self._failed.append((each.id, error))
        if self._failed:
            self._batcher.remove({id for id, _ in self._failed})
        # what is still owed stays so, but editing may make up for no more than this one step
        self._owed_s = max(self._owed_s, 0.0) - (time.perf_counter() - began)
        return told

    def _tell(self, sequence: Sequence, news: News) -> None:
        ticket = self._tickets.get(sequence.id)
        if ticket is None:
            return  # cancelled during the step
        now = time.monotonic()
        if not ticket.began_at:
            ticket.began_at = now
            metrics.FIRST_TOKEN_SECONDS.observe(now - ticket.sent_at)
        elif news.said > ticket.tokens:
            metrics.INTER_TOKEN_SECONDS.observe(now - ticket.last_token_at)
        ticket.last_token_at, ticket.tokens = now, news.said
        if news.finish_reason:
            del self._tickets[sequence.id]
        try:
            ticket.told(news)
        except Exception as error:  # its own reply could not be made
            log.exception("an answer could not be told")
            self._tickets.setdefault(sequence.id, ticket)
            self._fail(sequence.id, "generation_failed", f"{type(error).__name__}: {error}")
            self._cancelled.add(sequence.id)
            return
        if news.finish_reason:
            _record(sequence, ticket, now)

    def _fail(self, id: str, code: str, detail: str) -> None:
        ticket = self._tickets.pop(id)
        metrics.REQUEST_SUCCESS.labels("abort" if code == "generation_timed_out" else "error").inc()
        ticket.failed(code, detail)

    def _can_go_on(self) -> bool:
        assert self._batcher is not None
        return bool(self._under_way or (self._batcher.waiting and not self._holding))

    def _wanted(self) -> bool:
        return bool(self._tickets) and not (self._holding and not self._under_way)

    async def _tell_waiters(self) -> None:
        async with self._stepped:
            self._stepped.notify_all()

    def _count(self) -> None:
        running = min(self._under_way, len(self._tickets))
        metrics.REQUESTS_RUNNING.set(running)
        metrics.REQUESTS_WAITING.set(len(self._tickets) - running)


def _record(sequence: Sequence, ticket: Ticket, now: float) -> None:
    metrics.REQUEST_SUCCESS.labels(sequence.finish_reason).inc()
    metrics.PROMPT_TOKENS.inc(len(sequence.ids))
    metrics.GENERATION_TOKENS.inc(len(sequence.said))
    metrics.E2E_SECONDS.observe(now - ticket.sent_at)
    if len(sequence.versions) > 1:
        metrics.MIXED_ANSWERS.inc()
