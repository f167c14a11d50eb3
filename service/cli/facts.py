"""Reading a file of facts: JSON lines with a prompt and a target each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ALLOWED = {"prompt", "target", "rephrases", "unrelated", "subject", "aliases"}


class FactsError(ValueError):
    """The file cannot be used; the message names the line."""


def read_facts(path: Path) -> list[dict[str, Any]]:
    """Raises FactsError naming the first line that is not a fact. Nothing is posted then."""
    facts = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FactsError(f"{path} cannot be read: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fact = json.loads(line)
        except json.JSONDecodeError as error:
            raise FactsError(f"{path}:{number} is not JSON: {error}") from None
        if not isinstance(fact, dict) or not {"prompt", "target"} <= set(fact) or not set(fact) <= ALLOWED:
            raise FactsError(
                f'{path}:{number} must be an object with "prompt" and "target" '
                '(and perhaps "rephrases", "unrelated", "subject", "aliases")'
            )
        facts.append(fact)
    if not facts:
        raise FactsError(f"{path} holds no facts")
    return facts
