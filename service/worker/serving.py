"""Answering questions: takes them from the generation stream, and answers with the revision that answered."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import structlog
import torch
from redis.exceptions import RedisError

from editor_core.texts import Format, rendered, token_ids
from service import metrics
from service.domain.messages import GenerateReply, GenerateRequest
from service.infra.streams import GenerationChannel, Group
from service.worker.model_thread import ModelThread
from service.worker.resident import ResidentModel

log = structlog.get_logger()
MAX_TAKEN = 16  # questions this worker holds at once; others stay for whoever is free
BLOCK_MS = 1000
ABANDONED_AFTER_MS = 150_000  # beyond every deadline: only to clear entries of workers that are gone


class Generations:
    """Serves until drained. `revision_changed` must be called whenever the resident model moves."""

    def __init__(self, name: str, resident: ResidentModel, thread: ModelThread, channel: GenerationChannel) -> None:
        self._resident, self._thread, self._channel = resident, thread, channel
        self._questions: Group = channel.questions(name)
        self._tasks: set[asyncio.Task[None]] = set()
        self._moved = asyncio.Event()
        self._draining = False

    def revision_changed(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    async def run(self) -> None:
        while not self._draining:
            try:
                if len(self._tasks) >= MAX_TAKEN:
                    await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
                    continue
                for entry, fields in await self._questions.read(count=MAX_TAKEN - len(self._tasks), block_ms=BLOCK_MS):
                    self._take(entry, fields)
                for entry, _ in await self._questions.take_over(ABANDONED_AFTER_MS):
                    await self._questions.done(entry)
            except RedisError as error:
                log.warning("generation stream unavailable", detail=str(error))
                await asyncio.sleep(0.5)

    async def drain(self, timeout_s: float) -> None:
        """Take no more questions and finish those taken."""
        self._draining = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)

    def _take(self, entry: str, fields: dict[str, str]) -> None:
        task = asyncio.create_task(self._handle(entry, fields))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, entry: str, fields: dict[str, str]) -> None:
        try:
            request = GenerateRequest.from_json(fields["request"])
        except (KeyError, ValueError, TypeError) as error:
            log.warning("question not understood", detail=str(error))
            with contextlib.suppress(RedisError):
                await self._questions.done(entry)
            return
        reply = await self._answer(request)
        try:
            if reply is not None:
                await self._channel.reply(request.reply_to, reply)
            await self._questions.done(entry)
        except RedisError as error:
            log.warning("answer not delivered", detail=str(error))

    async def _answer(self, request: GenerateRequest) -> GenerateReply | None:
        """None when nobody waits for the answer any more."""
        metrics.REQUESTS_WAITING.inc()
        try:
            if not await self._reach(request.min_revision, request.deadline):
                detail = f"this worker serves revision {self._resident.revision}, not yet {request.min_revision}"
                return GenerateReply(request.id, error_code="revision_not_reached", error_detail=detail)
            reply = await self._thread.run(self._generate, request)
        except Exception as error:  # the asker must hear of it, whatever it is
            log.exception("generation failed")
            metrics.REQUEST_SUCCESS.labels("error").inc()
            return GenerateReply(request.id, error_code="generation_failed", error_detail=f"{type(error).__name__}: {error}")
        finally:
            metrics.REQUESTS_WAITING.dec()
        if reply is not None and not reply.error_code:
            metrics.REQUEST_SUCCESS.labels(reply.finish_reason).inc()
            metrics.PROMPT_TOKENS.inc(reply.prompt_tokens)
            metrics.GENERATION_TOKENS.inc(reply.completion_tokens)
            metrics.E2E_SECONDS.observe(time.time() - request.sent_at)
        return reply

    async def _reach(self, revision: int, deadline: float) -> bool:
        while self._resident.revision < revision:
            left_s = deadline - time.time()
            if left_s <= 0:
                return False
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), left_s)
        return True

    def _generate(self, request: GenerateRequest) -> GenerateReply | None:
        """On the model thread, so the revision read here is the one that answers."""
        began = time.time()
        if began > request.deadline:
            metrics.REQUEST_SUCCESS.labels("abort").inc()
            return None
        metrics.QUEUE_SECONDS.observe(began - request.sent_at)
        with metrics.REQUESTS_RUNNING.track_inprogress():
            return generate(self._resident, request)


@torch.inference_mode()
def generate(resident: ResidentModel, request: GenerateRequest) -> GenerateReply:
    """One answer by plain generation: greedy at temperature 0, sampled above."""
    model: Any = resident.model
    tokenizer = resident.tokenizer
    format: Format = "chat" if request.chat else "plain"
    if request.chat and not tokenizer.chat_template:
        return GenerateReply(
            request.id, error_code="no_chat_template", error_detail="this model has no chat template; ask with chat=false"
        )
    ids = token_ids(tokenizer, rendered(tokenizer, request.prompt, format), format)
    room = getattr(model.config, "max_position_embeddings", 1 << 30) - len(ids)
    if not ids or room < 1:
        detail = f"the prompt is {len(ids)} tokens long; this model reads {room + len(ids)}"
        return GenerateReply(request.id, error_code="prompt_too_long" if ids else "empty_prompt", error_detail=detail)
    input_ids = torch.tensor([ids], device=model.device)
    sampling: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if request.temperature > 0:
        sampling = {"do_sample": True, "temperature": request.temperature, "top_p": 1.0, "top_k": 0}
    output = model.generate(
        input_ids=input_ids,
        attention_mask=torch.ones_like(input_ids),
        max_new_tokens=min(request.max_tokens, room),
        pad_token_id=tokenizer.pad_token_id,
        **sampling,
    )[0, len(ids) :]
    eos = model.generation_config.eos_token_id
    ended = int(output[-1]) in (eos if isinstance(eos, list) else [eos])
    return GenerateReply(
        id=request.id,
        text=tokenizer.decode(output, skip_special_tokens=True),
        revision=resident.revision,
        prompt_tokens=len(ids),
        completion_tokens=len(output),
        finish_reason="stop" if ended else "length",
    )
