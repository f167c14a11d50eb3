"""Flat cost: what an edit and an answer cost beside 100, 1,000, 10,000 and 100,000 edits in force."""
