"""The stage `ranked_replies`: filter replies and rank those that stay among their siblings.

Each filter is a setting and counts the replies it drops. A dropped reply takes its subtree with it; `dropped.parquet`
lists both, with `because_of` set to the dropped reply for the subtree. Filters run before ranking, so ranks have no
gaps. Cost: 0.15 s for 13,720 utterances.
"""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from adc_pipeline.core.engine import Engine, counts_by, only_row
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.records import read_record
from adc_pipeline.core.shards import COUNTS as COUNTED
from adc_pipeline.core.shards import Counts, map_shards, shards_of, work_folder
from adc_pipeline.core.store.finished import is_finished
from adc_pipeline.corpus.changes import BEFORE, NOW, Changes, changed_counts, merge
from adc_pipeline.corpus.tables import create_read_rows, create_tree
from adc_pipeline.ranking.near_duplicates import NEAR, kept_near_counts, near_counts, write_near_duplicates
from adc_pipeline.ranking.settings import Order, RankingSettings, ScoreOrder
from adc_pipeline.ranking.values import values_query

RANKED_REPLIES, DROPPED_REPLIES = "ranked_replies.parquet", "dropped.parquet"

REPLIES = """
CREATE TABLE replies AS
SELECT position, t.parent_position AS parent, t.depth, r.id, {score} AS score, {votes} r.timestamp,
    r.recorded_at - r.timestamp AS age,
    CASE
        WHEN $deleted AND r.missing_text = 'deleted' THEN 'deleted'
        WHEN $empty AND r.missing_text = 'empty' THEN 'empty'
        WHEN list_contains($speakers, r.speaker) THEN 'speaker'
        WHEN $stickied AND r.stickied THEN 'stickied'
        WHEN $score_hidden AND r.score_hidden THEN 'score_hidden'
        WHEN $distinguished AND r.distinguished IS NOT NULL THEN 'distinguished'
        WHEN r.recorded_at - r.timestamp < 3600 * $min_age_hours THEN 'min_age_hours'
        WHEN {score} < $min_score THEN 'min_score'
        {no_value}
        {near}
    END AS reason
FROM read_rows AS r JOIN (FROM tree WHERE depth > 0) AS t USING (position) {join}
"""
# A reply that nobody answered has no row in the values of `replies`; one without a label has no value.
VALUES = {True: "coalesce(v.value, 0)", False: "v.value"}
JOIN = "LEFT JOIN ({values}) AS v USING (position)"

WHEN_NEAR = "WHEN position IN (SELECT position FROM near_duplicates) THEN 'near_duplicate'"

# A single reply has no gap.
GAPS = """
CREATE TABLE close_groups AS
SELECT parent FROM (
    SELECT parent, max(score, 2) AS best FROM replies WHERE reason IS NULL GROUP BY parent
) WHERE len(best) = 2 AND best[1] - best[2] < $min_score_gap
"""

DROPPED = """
CREATE TABLE dropped AS
WITH RECURSIVE offenders AS (
    SELECT position, coalesce(reason, 'min_score_gap') AS reason FROM replies
    WHERE reason IS NOT NULL OR parent IN (SELECT parent FROM close_groups)
), sound AS (
    SELECT position, parent FROM replies ANTI JOIN offenders USING (position)
), lost AS (
    SELECT position, reason, NULL::BIGINT AS because_of FROM offenders
    UNION ALL
    SELECT sound.position, lost.reason, coalesce(lost.because_of, lost.position)
    FROM lost JOIN sound ON sound.parent = lost.position
)
SELECT * FROM lost
"""

# Ties go to the earlier timestamp, then to the smaller id; `released` uses positions only. A single window for rank and
# count needs one sort.
RANKED = """
CREATE TABLE ranked AS
SELECT position, parent, depth, score, row_number() OVER siblings AS rank, count(*) OVER siblings AS siblings
FROM replies ANTI JOIN dropped USING (position)
WINDOW siblings AS (
    PARTITION BY parent ORDER BY {order} ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
)
"""
ORDERS: dict[Order, str] = {
    "score": "score DESC, timestamp, id",
    "released": "CASE WHEN depth = 1 THEN score END DESC, position",
}

RANKED_ROWS = """
SELECT r.id, r.conversation_id, r.reply_to, ranked.score, r.timestamp, position, ranked.rank, ranked.siblings,
    ranked.depth, ranked.parent AS parent_position
FROM read_rows AS r JOIN ranked USING (position) ORDER BY position
"""

DROPPED_ROWS = """
WITH named AS MATERIALIZED (
    SELECT position, id, conversation_id FROM read_rows SEMI JOIN dropped USING (position)
)
SELECT r.id, r.conversation_id, d.position, d.reason, because.id AS because_of
FROM dropped AS d JOIN named AS r USING (position) LEFT JOIN named AS because ON because.position = d.because_of
ORDER BY d.position
"""

COUNTS = """
SELECT (SELECT count(*) FROM replies) AS replies,
    (SELECT count(*) FROM ranked) AS ranked,
    (SELECT count(*) FROM dropped) AS dropped,
    (SELECT count(*) FROM ranked WHERE rank = 1) AS sibling_groups,
    (SELECT count(*) FROM ranked WHERE rank = 1 AND siblings > 1) AS groups_of_two_or_more,
    (SELECT count(*) FROM tied) AS groups_tied
"""
# Groups in which most pairs of siblings have the same score.
TIED = """
CREATE TABLE tied AS
SELECT parent FROM (
    SELECT parent, score, count(*) AS same, any_value(siblings) AS siblings FROM ranked WHERE siblings > 1 GROUP BY ALL
) GROUP BY parent HAVING 2 * sum(same * (same - 1)) > any_value(siblings * (siblings - 1))
"""
# A score of the first minutes says nothing. Only for a corpus that tells when it was recorded.
AGES = """
SELECT count(age) AS replies_with_recording_time,
    count_if(age < 3600) AS replies_recorded_within_an_hour, count_if(age < 86400) AS replies_recorded_within_a_day
FROM replies
"""

AGES_COUNTED = ("replies_with_recording_time", "replies_recorded_within_an_hour", "replies_recorded_within_a_day")

# The smallest BIGINT has no opposite.
SCORES: dict[ScoreOrder, str] = {"higher": "{0}", "lower": "try_cast(-CAST({0} AS HUGEINT) AS BIGINT)"}


def write_ranked_replies(
    utterances: Path,
    out: Path,
    settings: RankingSettings | None = None,
    engine: Engine | None = None,
    work: Path | None = None,
    previous: Path | None = None,
) -> Counts:
    """Filter and rank the replies of the artefact `utterances`, shard by shard, into the folder `out`.

    See `rank_shard` for the files of a shard. `work` keeps finished shards for a rerun. `previous` is a result by the
    same settings and code, of the version before `utterances` (`corpus.changes`): what it has of conversations that
    have not changed is reused. Return the counts: `replies` = `ranked` + `dropped`, the latter also by reason.
    """
    settings, engine = settings or RankingSettings(), engine or Engine()
    out.mkdir(parents=True, exist_ok=True)
    values = values_query(utterances, settings, engine)
    with work_folder(work, out) as finished, engine.shared(finished / "spill") as engine:
        # These compare a reply with others of the whole corpus.
        alone = not values and settings.near_duplicates != "drop"
        changes = Changes.read(utterances) if previous and alone else None
        near = finished / "near_duplicates.parquet" if settings.near_duplicates != "keep" else None
        counted = kept_near_counts(utterances, previous, changes) if near and previous and changes else {}
        missing = None if near is None or counted or is_finished(near) else near
        if missing and settings.near_duplicates == "drop":
            # The shards read what is found.
            write_near_duplicates(utterances, missing, settings, engine)
            missing = None

        def make(name: str, folder: Path, engine: Engine) -> Counts:
            if previous is None or changes is None:
                return rank_shard(utterances / name, folder, settings, engine, values, near)
            return rank_changes(utterances / name, previous / name, folder, settings, engine, changes)

        shards = finished / (f"since-{changes.previous}" if changes else "shards")
        with ThreadPoolExecutor(1) as beside:
            # Python compares a sample on one core while DuckDB ranks.
            compared = missing and beside.submit(write_near_duplicates, utterances, missing, settings, engine)
            counts = map_shards([shard.name for shard in shards_of(utterances)], make, out, shards, engine)
        if compared:
            compared.result()
        if previous and changes:
            Changes(previous.name, changes.runs).record(out)
        if near:
            counted = counted or near_counts(near)
            (out / NEAR).write_text(json.dumps(counted) + "\n")
        return counts | counted


def rank_changes(
    utterances: Path, previous: Path, out: Path, settings: RankingSettings, engine: Engine, changes: Changes
) -> Counts:
    """Write the files of a shard from those of its previous version, by ranking the conversations that have changed."""
    before, now = (rank_part(utterances / part, out / part, settings, engine) for part in (BEFORE, NOW))

    def compute(folder: Path) -> Counts:
        return rank_shard(utterances, folder, settings, engine)

    files = (RANKED_REPLIES, "position"), (DROPPED_REPLIES, "position")
    merge(out, previous, files, changes.runs, utterances, compute, engine)
    found = changed_counts(read_record(previous / COUNTED), before, now)
    # As `rank_shard` returns them.
    ages = AGES_COUNTED if found.get(AGES_COUNTED[0]) else ()
    reasons = sorted(name for name in found if name.startswith("dropped.") and found[name])
    others = [name for name in found if "." not in name and name not in AGES_COUNTED]
    return {name: found[name] for name in (*others, *reasons, *ages)}


def rank_part(utterances: Path, out: Path, settings: RankingSettings, engine: Engine) -> Counts:
    out.mkdir(parents=True)
    return rank_shard(utterances, out, settings, engine)


def rank_shard(
    utterances: Path, out: Path, settings: RankingSettings, engine: Engine, values: str = "", near: Path | None = None
) -> Counts:
    """Filter and rank the replies of one shard and write two Parquet files into the folder `out`.

    `ranked_replies.parquet` holds the replies that stay, in the order of the source, with `rank` (1 is best),
    `siblings` (number of replies ranked together) and `depth` (1 for a reply to the root); `dropped.parquet` the rest.
    `values` is the query of what replies are ranked by (`ranking.values`); empty for their scores. `near` is the file
    of near-duplicates, of which the setting says whether they are dropped.
    """
    filters = {
        "deleted": settings.deleted,
        "empty": settings.empty,
        "speakers": list(settings.speakers),
        "stickied": settings.stickied,
        "score_hidden": settings.score_hidden,
        "distinguished": settings.distinguished,
        "min_age_hours": settings.min_age_hours,
        "min_score": settings.min_score,
    }
    with engine.connect(out / "spill") as connection:
        create_read_rows(connection, utterances)
        create_tree(connection, utterances)
        drops = near is not None and settings.near_duplicates == "drop"
        if drops:
            rows = connection.read_parquet(str(near), hive_partitioning=False)
            rows.filter("near").project("position").create_view("near_duplicates")
        replies = REPLIES.format(**parts_of_query(settings, values), near=WHEN_NEAR if drops else "")
        engine.run(connection, "filtering replies", replies, filters)
        connection.execute(GAPS, {"min_score_gap": settings.min_score_gap})
        connection.execute(DROPPED)
        engine.run(connection, "ranking replies", RANKED.format(order=order(settings, values)))
        connection.execute(TIED)
        engine.write(connection, "writing ranked replies", RANKED_ROWS, out / RANKED_REPLIES)
        engine.write(connection, "writing dropped replies", DROPPED_ROWS, out / DROPPED_REPLIES)
        reasons = counts_by(connection, "SELECT reason, count(*) FROM dropped GROUP BY ALL")
        counts = only_row(connection, COUNTS) | {f"dropped.{reason}": number for reason, number in reasons.items()}
        ages = only_row(connection, AGES)
        return counts | (ages if ages["replies_with_recording_time"] else {})


def parts_of_query(settings: RankingSettings, values: str) -> dict[str, str]:
    """Return the parts of `REPLIES`: the expression of the score, and where it comes from if it is not that read."""
    score = SCORES[settings.score_order]
    if not values:
        return {"score": score.format("r.score"), "votes": "", "no_value": "", "join": ""}
    value = score.format(VALUES[settings.rank_by in ("replies", "depth")])
    return {
        "score": value,
        "votes": "r.score AS votes,",
        "no_value": f"WHEN {value} IS NULL THEN 'no_value'",
        "join": JOIN.format(values=values),
    }


def order(settings: RankingSettings, values: str) -> str:
    """Return the order of siblings; ties of another value than the score go to the score."""
    found = ORDERS[settings.order]
    return found.replace("DESC,", "DESC, votes DESC,", 1) if values else found


def refuse_to_turn_round(
    settings: RankingSettings, lower_is_better: Sequence[str], higher_is_better: Sequence[str]
) -> None:
    """Raise PipelineError where `score_order` would negate scores of which a higher one is better already.

    `lower_is_better` names the layouts of the corpus whose scores are read as their negatives, `higher_is_better` those
    of other parts whose order is known, where some parts do not tell theirs (`corpus.parts`).
    """
    if settings.score_order == "higher" or settings.rank_by != "score":
        return
    if lower_is_better:
        raise PipelineError(
            f"The scores of {', '.join(lower_is_better)} are ranks and are read as their negatives, so a higher one is"
            " better already: leave the setting score_order at higher."
        )
    if higher_is_better:
        raise PipelineError(
            f"The setting score_order: lower would turn round the scores of {', '.join(higher_is_better)}, too, where a"
            " higher one is better: write the ranks of the other sources as negative numbers, or rank them in a run of"
            " their own."
        )


def tie_warning(counts: Mapping[str, float]) -> str:
    """Return a warning if most siblings tie, so that time orders them; empty if not."""
    tied, groups = int(counts["groups_tied"]), int(counts["groups_of_two_or_more"])
    if tied <= groups / 2:
        return ""
    return (
        f"Most siblings tie: in {tied:,} of {groups:,} groups most pairs have the same score, so the time of writing"
        " decides which ranks higher. Set min_score_gap or min_age_hours, or take a later recording."
    )
