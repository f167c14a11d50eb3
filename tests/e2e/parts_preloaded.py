"""What the fork server imports once."""

from __future__ import annotations

import transformers.models.llama.modeling_llama  # noqa: F401

import tests.chaos.replay  # noqa: F401
