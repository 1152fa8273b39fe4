"""Read the cases of an evaluation from the conversations of one held-out split, and from no others.

The split is the test split, or the validation split, on which promotion decides (`validation`). The dataset's file of
the split determines those conversations; those whose root also occurs in training are excluded (`leakage`). DuckDB
pairs siblings and finds turns for steering, set-based and, where a cap applies, in a fixed hash order; Python then only
concatenates contexts (`conversations`) and returns arrays (`case_sets`). Cost: about 0.1 s for the sample's 175
conversations of 1,189 replies.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.engine import Engine
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.shards import parts
from adc_pipeline.evaluation.arrays import Bools
from adc_pipeline.evaluation.cases.case_sets import (
    Contrasts,
    Improvements,
    Pairs,
    Steerings,
    Turns,
    table,
)
from adc_pipeline.evaluation.cases.contexts import Context, contexts
from adc_pipeline.evaluation.cases.contrasts import Strangers, contrast_rows
from adc_pipeline.evaluation.cases.conversations import CHOSEN, REPLIES, Conversations, QueryNumbers
from adc_pipeline.evaluation.cases.leakage import SPEAKER_SCORES, Leakage, create_walked, read_leakage
from adc_pipeline.evaluation.cases.siblings import pairs, steerings
from adc_pipeline.evaluation.cases.walks import Walk, improvements, turns, walks
from adc_pipeline.evaluation.scoring.likelihoods import Query
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.ranking.ranked_replies import RANKED_REPLIES
from adc_pipeline.walks.files import split_files
from adc_pipeline.walks.markers import FormatName, Verdict
from adc_pipeline.walks.rendering import Speakers, create_rendered
from adc_pipeline.walks.splits import Split

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# The measures that have cases, without their readings.
FAMILIES = (
    "preference_accuracy",
    "steering",
    "in_context_improvement",
    "rejection_contrast",
    "verdict_calibration",
    "bits_per_byte",
    "perplexity",
)


@dataclass(frozen=True)
class Cases:
    """All cases, the queries that they refer to, and the conversations that they come from."""

    conversations: list[str]
    sources: list[str]  # of the conversations
    test_conversations: int
    queries: list[Query]
    own_verdicts: list[Verdict] | None  # (queries,) the segment's verdict, if the model reads it before the turn
    ask_text: Bools  # (queries,) whether the segment's log-probability is needed
    pairs: Pairs
    steerings: Steerings
    turns: Turns
    improvements: Improvements
    contrasts: Contrasts
    contexts: list[Context]  # one a conversation, of the first conversations
    leakage: Leakage


def read_cases(
    dataset: Path,
    utterances: Path,
    ranked: Path,
    format: FormatName,
    speakers: Speakers,
    settings: EvaluationSettings,
    spill: Path,
    engine: Engine | None = None,
    markers: str = "after",
    exclude_repeated_roots: bool = True,
    split: Split = "test",
    families: Collection[str] = FAMILIES,
    mentions: Speakers = "names",
) -> Cases:
    """Read the cases of a dataset's conversations of one split, spelt as in the dataset.

    `dataset`, `utterances` and `ranked` are the folders of those stages; `format`, `speakers` and `mentions` are the
    dataset's settings; DuckDB spills to `spill`. `markers` is their position in the model's texts. With `before`,
    segments come with their verdict. Unless `after`, there are no pairs and no steerings, which need a verdict after a
    turn. `exclude_repeated_roots` excludes the conversations whose root also occurs in the training split. Only the
    cases of `families`, of measures as in `measures.family`, are read.
    Raises PipelineError if `dataset` was not written from these utterances with these settings.
    """
    numbers = QueryNumbers()
    with (engine or Engine()).connect(spill) as connection:
        create_rendered(connection, utterances, format, speakers, mentions)
        files = parts(ranked, RANKED_REPLIES)
        near = settings.leakage == "near" and exclude_repeated_roots
        create_walked(connection, dataset, files, split, near)
        connection.execute(CHOSEN, {"exclude": exclude_repeated_roots})
        chosen = connection.execute("SELECT name, source, excluded FROM chosen ORDER BY number").fetchall()
        most = min(settings.max_conversations, sum(not excluded for *_, excluded in chosen))
        connection.execute(SPEAKER_SCORES, {"ranked": files})
        connection.execute(REPLIES, {"ranked": files, "most": most})
        leakage = read_leakage(connection, files, exclude_repeated_roots, near)
        trees = Conversations(connection, most)
        all_walks = list(walks(connection, split_files(dataset, split), most, format))
        if any(walk.background != trees.background.get(walk.conversation) for walk in all_walks):
            raise PipelineError(
                f"The dataset {dataset} was not written from these utterances with format {format}, speakers {speakers}"
                f" and mentions {mentions}: evaluate the model on the dataset that it was trained on."
            )
        sets = sets_of(connection, trees, all_walks, numbers, settings, markers, families)
        places = contexts(connection, trees, min(settings.contexts, most))
    ids, sources = [id for id, *_ in chosen], [source for _, source, _ in chosen]
    verdicts = numbers.own_verdicts() if markers == "before" else None
    queries, asked = numbers.queries(), numbers.ask_text()
    return Cases(ids[:most], sources[:most], len(ids), queries, verdicts, asked, *sets, places, leakage)


def sets_of(
    connection: "DuckDBPyConnection",
    trees: Conversations,
    all_walks: list[Walk],
    numbers: QueryNumbers,
    settings: EvaluationSettings,
    markers: str,
    families: Collection[str],
) -> tuple[Pairs, Steerings, Turns, Improvements, Contrasts]:
    """Return the cases of `families` of each kind; their queries go into `numbers`."""
    verdict_first, read_after = markers == "before", markers == "after"
    strangers = Strangers(trees.conversation, trees.segment)
    own_verdict: Verdict | None = "accepted" if verdict_first else None
    of_turns = {"verdict_calibration", "bits_per_byte", "perplexity"}.intersection(families)
    most_contrasts = settings.max_contrasts if "rejection_contrast" in families else 0
    return (
        pairs(connection, trees, numbers, settings)
        if read_after and "preference_accuracy" in families
        else table(Pairs, iter(())),
        steerings(connection, trees, numbers, settings)
        if read_after and "steering" in families
        else table(Steerings, iter(())),
        turns(all_walks if of_turns else [], numbers, verdict_first),
        improvements(all_walks if "in_context_improvement" in families else [], numbers, strangers, verdict_first),
        table(Contrasts, contrast_rows(connection, trees, numbers, strangers, most_contrasts, own_verdict)),
    )
