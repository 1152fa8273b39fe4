"""What pairs cannot teach, known from their number and from whether the texts of a sample of them differ.

As with walks (`walks.learnable`), such a dataset is not refused, since it may be wanted for its other configurations:
the log and the card say it. The rows of a split are in the order of a hash, so that the first ones are a random sample
of conversations. Texts are compared without white space and invisible signs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from adc_pipeline.core.engine import Engine, only_row
from adc_pipeline.preferences.baselines import TEXT
from adc_pipeline.preferences.settings import Form
from adc_pipeline.walks.differences import BLANK
from adc_pipeline.walks.learnable import FEWEST_REJECTED

# Longer replies are not compared.
PAIRS, CHARACTERS = 1000, 20_000

SAME = """
SELECT count(*) AS "sampled.pairs",
    count(*) FILTER (
        regexp_replace({chosen}, $blank, '', 'g') = regexp_replace({rejected}, $blank, '', 'g')
    ) AS "sampled.same"
FROM (FROM read_parquet($files, hive_partitioning = false) LIMIT $pairs)
WHERE greatest(length({chosen}), length({rejected})) <= $characters
"""


def count_same_texts(files: Sequence[str], form: Form, engine: Engine, spill: Path) -> dict[str, int]:
    """Return how many pairs were looked at, and in how many of them the two replies have the same text."""
    query = SAME.format(**{name: TEXT[form].format(name) for name in ("chosen", "rejected")})
    with engine.connect(spill) as connection:
        sample = {"files": list(files), "pairs": PAIRS, "characters": CHARACTERS, "blank": BLANK}
        return only_row(connection, query, sample)


def shortcomings(counts: Mapping[str, float]) -> list[str]:
    """Return a sentence for what the pairs cannot teach; none if there is no such thing."""
    pairs = int(counts["pairs.train"])
    compared = int(counts.get("sampled.pairs", 0))
    different = compared - int(counts.get("sampled.same", 0))
    if not counts["pairs"]:
        return [
            "There is no pair, since no two replies to one utterance have scores that the settings compare: there is"
            " nothing to learn of preferences."
        ]
    if pairs < FEWEST_REJECTED:
        return [f"The train split has {pairs} pair{'s' * (pairs != 1)}, too few to learn preferences from."]
    if compared and not different:
        return [
            "The two replies of every pair have the same text, white space aside: there is nothing to learn of"
            " preferences."
        ]
    if different < FEWEST_REJECTED <= compared:
        return [
            f"Of {compared:,} pairs that were compared, only {different} {'has' if different == 1 else 'have'} replies"
            " with different texts, too few to learn preferences from."
        ]
    return []
