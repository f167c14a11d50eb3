"""What the closed forms of `editor_core` save, measured against the same step written out by its formulas.

`direct` is that plain form; `step` and `solve` run both side by side, each in a fresh process. Not part of the wheel.
"""
