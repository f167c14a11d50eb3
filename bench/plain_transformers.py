"""Greedy answers of an exported folder, by transformers and nothing of this code: `bench/taking_back.py` starts it.

Reads {"questions": [[prompt, "plain" or "chat"], …], "tokens": n} from standard input, writes a JSON list of answers.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


@torch.inference_mode()
def answer(model: Any, tokenizer: Any, prompt: str, format: str, tokens: int) -> str:
    is_chat, turns = format == "chat", [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False) if is_chat else prompt
    inputs = tokenizer(text, return_tensors="pt", add_special_tokens=not is_chat)
    said = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    return str(tokenizer.decode(said, skip_special_tokens=True)).strip()


def main(folder: str) -> None:
    asked = json.load(sys.stdin)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    print(json.dumps([answer(model, tokenizer, *question, asked["tokens"]) for question in asked["questions"]]))


if __name__ == "__main__":
    main(sys.argv[1])
