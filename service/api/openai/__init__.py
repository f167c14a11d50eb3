"""The interface that OpenAI's clients expect, under /v1."""
