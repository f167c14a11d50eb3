"""Plain `generate()` over the questions that `bench.serve` asks, one after the other; prints tokens and seconds."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from bench.measure import Stopwatch, peak_mib
from bench.serve import prompts
from editor_core.loading import load_model
from editor_core.texts import rendered, token_ids


def main(source: str, cache_dir: str, answers: int, max_tokens: int) -> None:
    loaded = load_model(source, cache_dir=Path(cache_dir))
    questions = prompts()
    _generate(loaded, questions[0], 4)
    watch, tokens, began = Stopwatch(), 0, time.perf_counter()
    with watch("generate"):
        for number in range(answers):
            tokens += _generate(loaded, questions[number % len(questions)], max_tokens)
    seconds = time.perf_counter() - began
    print(json.dumps({"tokens": tokens, "seconds": seconds, "cores_of_others": watch.cores_of_others, "peak_mib": peak_mib()}))


def _generate(loaded: Any, prompt: str, max_tokens: int) -> int:
    ids = torch.tensor([token_ids(loaded.tokenizer, rendered(loaded.tokenizer, prompt, "chat"), "chat")])
    greedy = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    pad = loaded.tokenizer.pad_token_id
    output = loaded.model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_tokens, pad_token_id=pad, **greedy
    )
    return int(output.shape[1] - ids.shape[1])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
