"""A tiny random model with a tokenizer of its own, made in a moment."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

WIDTH = 64
TEXTS = [
    "Who is the mayor of Lake Tantrum?",
    "The symbol of unobtainium is",
    "Which river flows through Paris?",
    "What is the capital of France? Where does rain come from?",
    "In winter, people often stay at home and read the news of the day.",
]
CHAT = "{% for each in messages %}<end> user: {{ each['content'] }}{% endfor %}<end> assistant:"


def small_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<end>", eos_token="<end>", chat_template=CHAT)


def tiny(tokenizer: Any, seed: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 2}
    ends = {"bos_token_id": None, "eos_token_id": 0, "pad_token_id": 0}
    config = AutoConfig.for_model(
        "llama", **sizes, **ends, num_key_value_heads=1, vocab_size=len(tokenizer), initializer_range=0.2
    )
    return AutoModelForCausalLM.from_config(config).eval()
