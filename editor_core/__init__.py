"""Lifelong editing of a language model's facts, in closed form. Knows torch and nothing of any service.

An edit's way through this package: `texts` (prompt and target become tokens) -> `capture` (keys and value gradients) ->
`statistics` -> `normalise` -> `solve` -> `update` (a Proposal) -> `masters` (the weights).
"""

from editor_core.config import EditorConfig
from editor_core.editor import Editor
from editor_core.statistics import Statistics
from editor_core.update import Proposal, Update

__all__ = ["Editor", "EditorConfig", "Proposal", "Statistics", "Update"]
