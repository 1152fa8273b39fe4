"""The configurations of the dataset `preferences`, each declared once: what a row is, its columns, and its query.

`datasets.load_dataset(FOLDER, NAME)` loads one. A configuration's query reads the tables that `datasets.py` makes of a
shard and yields its columns, with `split` and the sort keys `place` (of the group or the conversation) and `turn`
(within it). `completion` is a macro that renders a reply as the setting `form` asks.
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


PAIRS = Configuration(
    name="pairs",
    row="two replies to one utterance with different scores",
    trainer="trl's DPOTrainer and RewardTrainer, OpenRLHF, LLaMA-Factory",
    columns=(
        "prompt", "chosen", "rejected", "score_chosen", "score_rejected", "score_gap", "chosen_id", "rejected_id",
        "rank_chosen", "rank_rejected", "seconds_apart", "chosen_is_later",
    ),
    query="""
        SELECT split, place, rank_chosen * 4294967296 + rank_rejected AS turn, prompt, completion(c.content) AS chosen,
            completion(r.content) AS rejected, pairs.* EXCLUDE (parent, chosen, rejected), source, conversation_id
        FROM pairs JOIN prompts USING (parent) JOIN contents AS c ON c.position = pairs.chosen
        JOIN contents AS r ON r.position = pairs.rejected
    """,
)  # fmt: skip

# Answers are collected in any order and then sorted by rank; sorting the answers themselves would compare their texts.
GROUPS = Configuration(
    name="groups",
    row="all ranked replies to one utterance, of which at least two have different scores",
    trainer="listwise losses, best-of-n, the ranked lists of axolotl and LLaMA-Factory",
    columns=("prompt", "answers"),
    query="""
        SELECT split, place, 0 AS turn, prompt,
            list_select(unsorted, list_grade_up(list_transform(unsorted, lambda each: each.rank))) AS answers, source,
            conversation_id
        FROM prompts JOIN (
            SELECT parent, list({answer: content, rank: rank, score: score, id: id, "time": timestamp}) AS unsorted
            FROM answers JOIN contents USING (position) GROUP BY parent
        ) USING (parent)
    """,
)

TRIPLES = Configuration(
    name="triples",
    row="the best (reference), the second (chosen) and the worst (rejected) of three or more replies to one utterance",
    trainer="trl's TPOTrainer",
    columns=("prompt", "reference", "chosen", "rejected"),
    query="""
        SELECT split, place, 0 AS turn, prompt, completion(a.content) AS reference, completion(b.content) AS chosen,
            completion(c.content) AS rejected, source, conversation_id
        FROM (
            SELECT parent, max(CASE WHEN height = 1 THEN position END) AS best,
                max(CASE WHEN height = 2 THEN position END) AS second,
                max(CASE WHEN height = number THEN position END) AS last
            FROM answers WHERE number > 2 AND (height <= 2 OR height = number) GROUP BY parent
            HAVING max(CASE WHEN height = 1 THEN score END) > max(CASE WHEN height = 2 THEN score END)
                AND max(CASE WHEN height = 2 THEN score END) > min(score)
        ) JOIN prompts USING (parent) JOIN contents AS a ON a.position = best JOIN contents AS b ON b.position = second
        JOIN contents AS c ON c.position = last
    """,
)

VERDICTS = Configuration(
    name="verdicts",
    row="one reply with a verdict: true for the best of its siblings, false for one with a lower score",
    trainer="trl's KTOTrainer",
    columns=("prompt", "completion", "label"),
    query="""
        SELECT split, place, height AS turn, prompt, completion(content) AS completion, height = 1 AS label, source,
            conversation_id
        FROM (
            SELECT parent, position, height FROM answers WHERE height = 1
            UNION ALL SELECT parent, position, height FROM rejected
        ) JOIN prompts USING (parent) JOIN contents USING (position)
    """,
)

PRIVILEGED = Configuration(
    name="privileged",
    row="the best reply, with what only the teacher sees: its rejected siblings, or the replies that it got",
    trainer="trl's SDFTTrainer and SDPOTrainer",
    columns=("prompt", "completion", "privileged_context"),
    query="""
        SELECT split, place, 0 AS turn, prompt, completion(content) AS completion,
            getvariable('heading') || array_to_string(list_transform(
                list_select(unsorted, list_grade_up(list_transform(unsorted, lambda each: each.height))),
                lambda each: each.content), getvariable('blank_line')) AS privileged_context, source, conversation_id
        FROM prompts JOIN (SELECT parent, position FROM answers WHERE height = 1) USING (parent)
        JOIN (
            SELECT parent, list({height: height, content: content}) AS unsorted
            FROM seen_by_teacher JOIN contents USING (position) GROUP BY parent
        ) USING (parent) JOIN contents USING (position)
    """,
)

MESSAGES = Configuration(
    name="messages",
    row="the path of best replies from the root, which is the user's, to a reply of the assistant",
    trainer="trl's SFTTrainer, LLaMA-Factory, axolotl",
    columns=("messages",),
    query="""
        SELECT split, place, 0 AS turn, list_transform(
            list_select(unsorted, list_grade_up(list_transform(unsorted, lambda each: each.step))),
            lambda each, turn: {
                role: CASE WHEN turn % 2 = 1 THEN 'user' ELSE 'assistant' END, content: each.content}) AS messages,
            source, conversation_id
        FROM roots JOIN (
            SELECT root, list({step: step, content: CASE WHEN step % 2 = 0 THEN segment ELSE content END}) AS unsorted
            FROM best_path JOIN contents USING (position) GROUP BY root
        ) USING (root)
    """,
)

CONFIGURATIONS: Mapping[str, Configuration] = {
    each.name: each for each in (PAIRS, GROUPS, TRIPLES, VERDICTS, PRIVILEGED, MESSAGES)
}
