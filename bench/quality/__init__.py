"""What edits by the published recipe are worth to who asks the model afterwards, and what they cost everything else it says.

Everything is judged by free greedy generation and against the unedited model; the papers' teacher-forced scores stand
beside it, with the unedited model's own.
"""
