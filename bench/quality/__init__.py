"""What a set of edits is worth to who asks the model afterwards, and what it cost everything else the model says.

Everything is judged by free greedy generation and against the unedited model; the papers' teacher-forced scores stand
beside it, with the unedited model's own.
"""
