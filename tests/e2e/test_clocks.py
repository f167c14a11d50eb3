"""Api and worker on machines whose clocks are far apart: a real worker, and a stand-in for an api with another clock."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import redis
from service_processes import Service, wait_for

from service.domain.messages import GenerateReply, GenerateRequest
from service.infra.keys import Keys

Start = Callable[..., Service]
HOUR_S = 3600.0


class OtherApi:
    """Asks as an api would whose clock is so many seconds ahead."""

    def __init__(self, service: Service, ahead_s: float) -> None:
        self._redis: redis.Redis = redis.Redis.from_url(service.environment["REDIS_URL"], decode_responses=True)
        self._keys = Keys(service.environment["ERRATA_REDIS_PREFIX"])
        self._ahead_s = ahead_s

    def ask(self, within_s: float, waited_s: float = 0.0) -> GenerateReply:
        """The first reply. waited_s: how long the question has been in the stream already."""
        id, now = uuid.uuid4().hex, time.time() + self._ahead_s
        request = GenerateRequest(id, id, "Who?", False, 2, 0.0, 0, now, now + within_s)
        entry = f"{int((time.time() - waited_s) * 1000)}-*" if waited_s else "*"
        self._redis.xadd(self._keys.generate, {"request": request.to_json()}, id=entry)
        found: Any = wait_for(lambda: self._redis.xrange(self._keys.replies(id)), "a reply", timeout_s=60)
        return GenerateReply.from_json(found[0][1]["0"])


@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S])
def test_a_question_is_answered_whatever_the_clock_of_its_api_says(new_tiny_service: Start, ahead_s: float) -> None:
    service = new_tiny_service()
    service.start_all()
    assert OtherApi(service, ahead_s).ask(within_s=50).finish_reason == "length"


def test_a_question_that_has_waited_too_long_is_told_so(new_tiny_service: Start) -> None:
    service = new_tiny_service()
    service.start("api")  # so that the question lies there before a worker comes
    service.start("worker")
    assert OtherApi(service, HOUR_S).ask(within_s=5, waited_s=10).error_code == "generation_timed_out"
