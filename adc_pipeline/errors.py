"""The one error that a user is meant to read."""


class PipelineError(Exception):
    """One sentence: what is wrong, which setting it comes from, and what to do about it."""
