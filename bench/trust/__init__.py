"""What edits are worth to the people who use them, by whole answers alone.

A fact is asked in many ways, and questions whose answers must stay are asked before and after.
Nothing here knows how an edit is made. Questions go to a running service, or to a model in this
process. Rows have the same names in every run.
"""
