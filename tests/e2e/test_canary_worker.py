"""A worker whose question fails, and one that an edit ends, write no prompt into the log."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

import redis
from service_processes import Service, wait_for

from service.domain.messages import GenerateRequest
from service.infra.keys import Keys

PROMPT = f"prompt{secrets.token_hex(8)}"


def test_a_failing_question_and_a_failing_edit_are_logged_without_what_they_say(
    new_tiny_service: Callable[..., Service],
) -> None:
    service = new_tiny_service(ERRATA_FAILPOINTS=f"writer.begun[{PROMPT} ends it]=error")
    service.start_all()
    half_an_emoji = GenerateRequest("id", "nobody", f"{PROMPT} \ud83d", False, 4, 0.0, 0, time.time(), time.time() + 60)
    client = redis.Redis.from_url(service.environment["REDIS_URL"])
    client.xadd(Keys(service.environment["ERRATA_REDIS_PREFIX"]).generate, {"request": half_an_emoji.to_json()})
    wait_for(lambda: "a question could not be read" in service.log.read_text(), "the question to fail")
    [failed] = service.wait_until_applied(service.post([{"prompt": f"{PROMPT} {'é' * 3900}", "target": PROMPT}]))
    assert failed["failure"]["code"] == "not_encodable"
    service.post([{"prompt": f"{PROMPT} ends it", "target": PROMPT}])
    wait_for(lambda: service.processes["worker"].exitcode is not None, "the worker to end")
    assert "FailpointError" in service.log.read_text()
    assert PROMPT not in service.log.read_text()
    del service.processes["worker"]
