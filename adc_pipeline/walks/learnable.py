"""What a dataset cannot teach, or an evaluation of it cannot tell, known from its counts.

Such a dataset is not refused: a person may want its texts. The card, the log, an asset check and the report state it
before and after the training, and no champion is made of it.
"""

from collections.abc import Collection, Mapping

# With fewer conversations, a bootstrap over conversations gives too narrow an interval.
FEWEST_CONVERSATIONS = 20
# Fewer verdicts of one kind than this teach nothing that an evaluation could show.
FEWEST_REJECTED = 20
# Fewer different walks than this are learned by heart.
FEWEST_DIFFERENT = 20


def shortcomings(counts: Mapping[str, float], walks_per_conversation: int, same_as: Collection[str] = ()) -> list[str]:
    """Return a sentence for each shortcoming of a dataset; `same_as` are the datasets with the same content."""
    found = not_taught(counts)
    if same_as:
        found.append(
            f"It holds the same walks as {', '.join(sorted(same_as))}: models of the two differ by chance alone."
        )
    for split in ("train", "validation"):
        if not counts[f"walks.{split}"]:
            found.append(f"The {split} split is empty: give a larger corpus, or another `shares`.")
    # A dataset of an earlier version counts no conversations, and has every walk that was drawn.
    tested = int(counts.get("conversations.test", counts["walks.test"] // walks_per_conversation))
    if tested < FEWEST_CONVERSATIONS:
        found.append(
            f"The test split has {tested} conversation{'' if tested == 1 else 's'}, and an interval needs"
            f" {FEWEST_CONVERSATIONS}: give a larger corpus, or a larger test share (`shares`)."
        )
    return found


def not_taught(counts: Mapping[str, float]) -> list[str]:
    """Return a sentence for each reason why a model cannot learn verdicts, or anything, from a dataset."""
    found = []
    rejected, turns = int(counts["turns.rejected"]), int(counts["turns"])
    if rejected == 0:
        found.append(
            "No turn is rejected, since no reply in these walks has a sibling: there is nothing to learn of verdicts."
        )
    elif rejected < FEWEST_REJECTED:
        found.append(f"Only {rejected} of {turns:,} turns are rejected, too few to learn verdicts from.")
    # An earlier version did not compare texts.
    compared = int(counts.get("sampled.rejected", 0))
    different = compared - int(counts.get("sampled.same_as_accepted", 0))
    if compared and not different:
        found.append(
            "Every rejected reply has the text of the accepted one beside it, white space aside: there is nothing to"
            " learn of verdicts."
        )
    elif different < FEWEST_REJECTED <= compared:
        found.append(
            f"Of {compared:,} rejected replies that were compared, only {different} differ in their text from the"
            " accepted one beside them, too few to learn verdicts from."
        )
    # Not counted where verdicts do not follow the scores.
    tied = int(counts.get("sampled.tied", 0))
    if tied and (tied == compared or compared - tied < FEWEST_REJECTED <= compared):
        found.append(
            f"Of {compared:,} rejected replies that were compared, {tied:,} have the score of the accepted one beside"
            " them, so that the time of writing decides, and there is too little to learn of better and worse."
        )
    walks, texts = int(counts.get("sampled.walks", 0)), int(counts.get("sampled.different", 0))
    if texts < FEWEST_DIFFERENT <= walks:
        found.append(
            f"Of {walks:,} training walks that were compared, only {texts} differ{'s' * (texts == 1)} in the replies: a"
            " model learns them by heart, and the test split has the same ones."
        )
    return found
