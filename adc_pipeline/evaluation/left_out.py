"""Sentences on what of the test split an evaluation left out, from its counts."""

from collections.abc import Mapping

Counts = Mapping[str, float | None]


def too_long(counts: Counts) -> str:
    """Return the sentence on the queries whose contexts were too long for the model."""
    return (
        f"Of {counts['queries']:,} queries, {counts['queries.cut']:,} had a context too long for the model, which read"
        f" the end of the background and the nearest turns; {counts['queries.left_out']:,} had a reply too long for"
        " it and are excluded."
    )


def coverage(counts: Counts) -> list[str]:
    """Return sentences on what did not fit into the context."""
    sentences = [too_long(counts)]
    for measure in ("steering", "in_context_improvement", "rejection_contrast"):
        if (name := f"{measure}.left_out") in counts:
            sentences.append(
                f"Of {measure}, {counts[name]:,} cases are excluded because what they compare did not fit into the"
                " context."
            )
    return sentences


def nothing_evaluated(counts: Counts) -> str:
    """Return why an evaluation has no figure, and what to do."""
    test, repeated = (counts.get(f"conversations.{name}") for name in ("test", "left_out"))
    queries = counts.get("queries")
    if test and repeated == test:
        return (
            f"No conversation of the test split could be evaluated: all {test:,} are excluded, because their roots also"
            " occur in the training split; give a corpus whose conversations have different roots."
        )
    if queries and counts.get("queries.left_out") == queries:
        return (
            f"No reply of the test split fits into the context of {counts['context_tokens']:,} tokens: set"
            " `sequence_length` of the model and `max_context_tokens` of the evaluation higher."
        )
    also = f" {repeated:,} are excluded because their root also occurs in the training split." if repeated else ""
    return f"No conversation of the test split could be evaluated: increase its share in the setting `shares`.{also}"
