"""Every way an edit can be refused. In each case the model and the statistics are as they were.

EditorError
├── ConfigError              a setting is out of range, or two settings contradict each other
├── UnknownModuleError       a named module is not in the model
├── UnsupportedModuleError   the module is there but is neither nn.Linear nor Conv1D, or its weight is shared
├── EmptyBatchError          no answer token to learn from
├── NonFiniteUpdateError     a key, a gradient or an update holds NaN or infinity
├── UpdateTooLargeError      an update is finite but beyond the bound set for it
├── StatisticsMismatchError  statistics of other shapes, or of another algorithm
├── StaleProposalError       the editor has moved on since the proposal was computed
├── EncodingError            a text cannot be turned into an edit example (empty, or too many tokens)
├── CannotEditError          calibration found that this model cannot be edited, and why
├── ExportError              a model cannot be written in the form that was asked for
└── ModelLoadError           no model could be loaded from where the caller pointed
"""


class EditorError(Exception):
    """Base of all errors of `editor_core`."""


class ConfigError(EditorError, ValueError):
    """A setting is out of range, or two settings contradict each other."""


class UnknownModuleError(EditorError, KeyError):
    """A named module is not in the model."""

    def __str__(self) -> str:  # KeyError would show the repr of the message
        return str(self.args[0])


class UnsupportedModuleError(EditorError, TypeError):
    """The module cannot be edited: not nn.Linear or Conv1D, or its weight is shared with another module."""


class EmptyBatchError(EditorError, ValueError):
    """No answer token to learn from."""


class NonFiniteUpdateError(EditorError, ArithmeticError):
    """A key, a gradient or an update holds NaN or infinity."""


class UpdateTooLargeError(EditorError, ArithmeticError):
    """An update is finite but beyond the bound set for it."""


class StatisticsMismatchError(EditorError, ValueError):
    """Statistics of other shapes, or of another algorithm."""


class StaleProposalError(EditorError, RuntimeError):
    """The editor has moved on since the proposal was computed."""


class EncodingError(EditorError, ValueError):
    """A text cannot be turned into an edit example."""


class CannotEditError(EditorError, RuntimeError):
    """This model cannot be edited: it has no place for it, models no text, or too few facts hold."""


class ExportError(EditorError, RuntimeError):
    """The model cannot be written in the form that was asked for."""


class ModelLoadError(EditorError, RuntimeError):
    """No model could be loaded from where the caller pointed."""
