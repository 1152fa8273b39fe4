"""The configurations of the dataset `preferences`, each declared once: what a row is, its columns, and its query.

`datasets.load_dataset(FOLDER, NAME)` loads one. A configuration's query reads the tables that `datasets.py` makes of a
shard and yields its columns but those of its group's prompt, which are joined when the rows are written: a table of
whole rows would hold every prompt several times. `turn` orders rows with one prompt. `completion` is a macro that
renders a reply as the setting `form` asks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

# The last columns of every configuration, so that figures can be read by community and resampled by conversation.
ORIGIN = ("source", "conversation_id")


@dataclass(frozen=True)
class Configuration:
    """One configuration; `row` and `trainer` say in the card what a row is and which trainers take it."""

    name: str
    row: str
    trainer: str
    columns: tuple[str, ...]
    query: str
    # Has the columns `split`, `place` (of the group or the conversation) and those of `ORIGIN`.
    joined: str = "prompts USING (parent)"


PAIRS = Configuration(
    name="pairs",
    row="two replies to one utterance with different scores",
    trainer="trl's DPOTrainer and RewardTrainer, OpenRLHF, LLaMA-Factory",
    columns=(
        "prompt", "chosen", "rejected", "score_chosen", "score_rejected", "score_gap", "chosen_id", "rejected_id",
        "rank_chosen", "rank_rejected", "seconds_apart", "chosen_is_later",
    ),
    query="""
        SELECT rank_chosen * 4294967296 + rank_rejected AS turn, completion(c.content) AS chosen,
            completion(r.content) AS rejected, pairs.* EXCLUDE (chosen, rejected)
        FROM pairs JOIN answers AS c ON c.position = pairs.chosen JOIN answers AS r ON r.position = pairs.rejected
    """,
)  # fmt: skip

# Answers are collected in any order and then sorted by rank; sorting the answers themselves would compare their texts.
GROUPS = Configuration(
    name="groups",
    row="all ranked replies to one utterance, of which at least two have different scores",
    trainer="listwise losses, best-of-n, the ranked lists of axolotl and LLaMA-Factory",
    columns=("prompt", "answers"),
    query="""
        SELECT parent, 0 AS turn, list_select(unsorted, list_grade_up(ranks)) AS answers FROM (
            SELECT parent, list(rank) AS ranks,
                list({answer: content, rank: rank, score: score, id: id, "time": timestamp}) AS unsorted
            FROM answers GROUP BY parent
        )
    """,
)

TRIPLES = Configuration(
    name="triples",
    row="the best (reference), the second (chosen) and the worst (rejected) of three or more replies to one utterance",
    trainer="trl's TPOTrainer",
    columns=("prompt", "reference", "chosen", "rejected"),
    query="""
        SELECT best.parent, 0 AS turn, completion(best.content) AS reference, completion(second.content) AS chosen,
            completion(last.content) AS rejected
        FROM (FROM answers WHERE height = 1 AND number > 2) AS best
        JOIN (FROM answers WHERE height = 2) AS second ON second.parent = best.parent AND second.score < best.score
        JOIN (FROM answers WHERE height = number) AS last
            ON last.parent = best.parent AND last.score < second.score
    """,
)

VERDICTS = Configuration(
    name="verdicts",
    row="one reply with a verdict: true for the best of its siblings, false for one with a lower score",
    trainer="trl's KTOTrainer",
    columns=("prompt", "completion", "label"),
    query="""
        SELECT parent, height AS turn, completion(content) AS completion, height = 1 AS label
        FROM answers WHERE height = 1 OR position IN (SELECT position FROM rejected)
    """,
)

PRIVILEGED = Configuration(
    name="privileged",
    row="the best reply, with what only the teacher sees: its rejected siblings, or the replies that it got",
    trainer="trl's SDFTTrainer and SDPOTrainer",
    columns=("prompt", "completion", "privileged_context"),
    query="""
        SELECT parent, 0 AS turn, completion(content) AS completion,
            getvariable('heading') || replies AS privileged_context
        FROM answers JOIN seen USING (parent) WHERE height = 1
    """,
)

MESSAGES = Configuration(
    name="messages",
    row="the path of best replies from the root, which is the user's, to a reply of the assistant",
    trainer="trl's SFTTrainer, LLaMA-Factory, axolotl",
    columns=("messages",),
    query="""
        SELECT root, 0 AS turn, list_transform(contents, lambda content, turn: {
            role: CASE WHEN turn % 2 = 1 THEN 'user' ELSE 'assistant' END, content: content}) AS messages
        FROM best_texts
    """,
    joined="roots USING (root)",
)

CONFIGURATIONS: Mapping[str, Configuration] = {
    each.name: each for each in (PAIRS, GROUPS, TRIPLES, VERDICTS, PRIVILEGED, MESSAGES)
}
