"""Make the dataset `preferences` from ranked replies: six configurations as Parquet files.

A *group* is the replies to one utterance, of which at least two have different scores. Every configuration but
`messages` is made of groups: one table of prompts and one of the groups' answers are computed once, and each
configuration is one query over them (`configurations.py`). Which replies belong to it is decided by ids, ranks and
scores alone; texts are joined last. Pairs compare the score that replies are ranked by, not the rank: replies with
equal scores make no pair, although time has put one of them first.

A prompt is the path from the root to the utterance that is answered. Paths are found upwards from all groups at once,
`max_turns` joins of integers at most, and texts are joined last. Going down from the roots would take as many joins as
the deepest thread has replies.

All pairs of a group of n replies are n² / 2. `pairs: all` therefore compares `replies_per_group` replies of a larger
group, chosen by hash. `pairs_per_group` of the pairs are kept: those with the smallest sum of the two replies' hashes,
modulo 2**32. The hash of a reply is the first 8 hexadecimal digits of the MD5 of ``SEED:preferences:ID``, as a number.
One hash a reply is much cheaper than one a pair, and every pair of a group is equally likely to be kept.

Rows are ordered by a hash of the conversation id, as walks are, so that the bytes depend neither on the order of the
source nor on threads or shards.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.columns import row_count
from adc_pipeline.core.engine import Engine, only_row
from adc_pipeline.core.shards import Counts, map_shards, shards_of, work_folder
from adc_pipeline.corpus.tables import create_utterances
from adc_pipeline.preferences.configurations import CONFIGURATIONS, ORIGIN, PAIRS, Configuration
from adc_pipeline.preferences.settings import Form, Margin, Pairs, PreferenceSettings, Privileged, SourceIn
from adc_pipeline.ranking.ranked_replies import RANKED_REPLIES
from adc_pipeline.walks.datasets import PUBLISHED, join_shards, nullable, split_file
from adc_pipeline.walks.rendering import create_pseudonyms
from adc_pipeline.walks.splits import SPLITS, split_sql

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# `content` is a reply's text, or a root's title and text. A text without a visible character is no prompt and no
# completion.
TEXTS = r"""
CREATE TABLE texts AS
SELECT *, regexp_matches(content, '[^\s\p{{Z}}\p{{C}}]') AS visible FROM (
    SELECT r.position, r.namespace, r.conversation_id, r.score, r.speaker, c.root_position IS NOT NULL AS is_root,
        c.source, c.root_position IS NOT NULL AND r.text <> '' AS is_self_post,
        CASE WHEN c.root_position IS NULL THEN r.text
             ELSE concat_ws(chr(10), nullif(c.title, ''), nullif(r.text, '')) END AS content
    FROM {rows} AS r LEFT JOIN {conversations} AS c ON c.root_position = r.position
    SEMI JOIN (SELECT position FROM ranked UNION ALL SELECT root_position FROM conversations) AS used
        ON used.position = r.position
) {join}
"""
SEGMENTS = {
    "none": "content",
    "names": "concat(speaker, chr(10), content)",
    "pseudonyms": "concat(pseudonym, chr(10), content)",
}

# `segment` is the content with the speaker, as in prompts; it is not stored, since it mostly is the content again.
CONTENTS = "CREATE VIEW contents AS SELECT position, content, {segment} AS segment FROM texts"

# `place` orders conversations, in all shards together since a shard is a range of the same hash.
ROOTS = """
CREATE TABLE roots AS
SELECT position AS root, namespace, conversation_id, source, speaker, {split} AS split,
    row_number() OVER (ORDER BY md5(conversation_id), conversation_id, namespace) AS place
FROM texts WHERE is_root AND visible AND position NOT IN (FROM unfit)
    AND ($min_root_score IS NULL OR score >= $min_root_score) AND (is_self_post OR NOT $self_posts_only)
"""

# A text that does not fit is left out with all replies below it, as DialogRPT leaves out a whole path. The sign of a
# quotation may still be an entity, if the setting `decode_entities` of `utterances` is off.
UNFIT = r"""
CREATE OR REPLACE TABLE unfit AS
WITH RECURSIVE lost AS (
    SELECT position FROM texts
    WHERE len(regexp_extract_all(content, '\S+')) > $max_words
        OR ($exclude_quotations AND (contains(content, '>') OR contains(content, '&gt;')))
    UNION
    SELECT ranked.position FROM lost JOIN ranked ON ranked.parent_position = lost.position
)
FROM lost
"""

REPLIES = r"""
CREATE TABLE replies AS
SELECT r.position, r.parent_position AS parent, r.reply_to, r.id, r.score, r.timestamp, r.rank, r.siblings, r.depth,
    roots.root, CASE WHEN r.siblings > 1
         THEN ('0x' || left(md5(concat_ws(':', getvariable('seed'), 'preferences', r.id)), 8))::BIGINT END AS digest
FROM ranked AS r JOIN texts USING (position)
JOIN roots ON roots.namespace = texts.namespace AND roots.conversation_id = texts.conversation_id
WHERE visible AND (r.depth = 1 OR NOT $top_level_only)
    AND (texts.speaker <> roots.speaker OR NOT $exclude_root_speaker)
    AND r.position NOT IN (FROM unfit)
"""

# `height` orders a group by score; it is the rank unless the setting `order` of ranked_replies ranks otherwise.
ANSWERS = """
CREATE TABLE answers AS
SELECT * FROM (
    SELECT position, parent, reply_to, id, score, timestamp, rank, depth, root, digest,
        row_number() OVER scores AS height, count(*) OVER scores AS number,
        first_value(score) OVER scores AS best, last_value(score) OVER scores AS worst
    FROM replies WHERE siblings > 1
    WINDOW scores AS (
        PARTITION BY parent ORDER BY score DESC, rank ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
    )
) WHERE number > 1
"""
# Groups without a preference, and those whose answered utterance has no visible text.
TIED = "DELETE FROM answers WHERE best = worst"
UNASKED = "DELETE FROM answers WHERE parent IN (SELECT position FROM texts WHERE visible IS NOT TRUE)"

GROUPS = """
CREATE TABLE groups AS
SELECT parent, root, depth, source, conversation_id, split, row_number() OVER (ORDER BY place, reply_to) AS place
FROM answers JOIN roots USING (root) WHERE height = 1
"""

# From here on, no text is looked up among those of the whole corpus. The answers of a group lie together, so that
# collecting them in lists takes a third of the time.
ANSWERS_WITH_TEXTS = """
CREATE OR REPLACE TABLE answers AS
SELECT answers.*, content, length(content) AS characters FROM answers JOIN contents USING (position)
ORDER BY parent, rank
"""

# Each step of a recursion reads what it joins again: a table of two columns is much cheaper than the file.
ABOVE = "CREATE TABLE above AS SELECT position, parent_position FROM ranked WHERE depth > 1"

# `step` counts upwards from the utterance that is answered; the root's is max_turns, wherever it is.
CONTEXT = """
CREATE TABLE context AS
WITH RECURSIVE path AS (
    SELECT parent, parent AS position, 0 AS step FROM groups WHERE depth > 1
    UNION ALL
    SELECT path.parent, above.parent_position, path.step + 1
    FROM path JOIN above USING (position)
    WHERE path.step + 2 < $max_turns
), bounded AS (
    SELECT parent, position, step, length(segment) AS characters,
        CASE WHEN parent = position AND step > 0 THEN $max_characters ELSE $max_characters // 2 END AS most
    FROM (FROM path UNION ALL SELECT parent, root, $max_turns FROM groups) JOIN contents USING (position)
)
SELECT *, sum(least(characters, most)) OVER (PARTITION BY parent ORDER BY step < $max_turns, step) AS total
FROM bounded
QUALIFY step = 0 OR step = $max_turns OR total <= $max_characters
"""

PROMPTS = """
CREATE TABLE prompts AS
SELECT parent, {prompt} AS prompt, turns < depth OR cut AS shortened, source, conversation_id, split, place
FROM (
    SELECT groups.*, turns, cut, list_transform(
        list_select(unsorted, list_grade_up(steps, 'DESC')), lambda each, turn: {content}) AS contents
    FROM (
        SELECT parent, count(*) AS turns, bool_or(characters > most) AS cut, list(step) AS steps,
            list(left(segment, most)) AS unsorted
        FROM context JOIN contents USING (position) GROUP BY parent
    ) JOIN groups USING (parent)
)
"""
# Roles are counted backwards: the utterance that is answered is the user's.
PROMPT_FORMS: dict[Form, str] = {
    "conversational": "list_transform(contents, lambda content, turn: {role:"
    " CASE WHEN (len(contents) - turn) % 2 = 0 THEN 'user' ELSE 'assistant' END, content: content})",
    "text": "array_to_string(contents, getvariable('blank_line')) || getvariable('blank_line')",
}
COMPLETION_FORMS: dict[Form, str] = {
    "conversational": "CREATE MACRO completion(content) AS [{role: 'assistant', content: content}]",
    "text": "CREATE MACRO completion(content) AS content",
}
# Of a turn of a prompt, which begins with the root.
TURN_CONTENTS: dict[SourceIn, str] = {
    "none": "each",
    "in_prompt": "CASE WHEN turn = 1 THEN 'Community: ' || source || getvariable('blank_line') ELSE '' END || each",
}

# Of a large group a few replies, so that the number of its pairs is bounded.
FEW = """
CREATE TABLE few AS
SELECT parent, score, timestamp, rank, digest FROM answers
QUALIFY row_number() OVER (PARTITION BY parent ORDER BY digest, rank) <= $replies_per_group
"""

# Each gives the two replies as `c` and `r`; that c has the higher score follows.
COMPARED: dict[Pairs, str] = {
    "all": "few AS c JOIN few AS r ON c.parent = r.parent",
    "best-rest": "answers AS c JOIN answers AS r ON c.parent = r.parent AND c.height = 1",
    "adjacent": "answers AS c JOIN answers AS r ON c.parent = r.parent AND r.height = c.height + 1",
    "consecutive": """
        (SELECT *, row_number() OVER (PARTITION BY parent ORDER BY timestamp, id) + unnest([-1, 1]) AS next
         FROM answers) AS c
        JOIN (SELECT *, row_number() OVER (PARTITION BY parent ORDER BY timestamp, id) AS turn FROM answers) AS r
            ON c.parent = r.parent AND r.turn = c.next
    """,
}

# Most candidates are not kept, so that they have no more columns than the choice needs.
CANDIDATES = """
CREATE TABLE candidates AS
SELECT c.parent, (c.digest + r.digest) % 4294967296 AS digest, c.rank AS chosen, r.rank AS rejected
FROM {compared}
WHERE c.score > r.score AND c.score::HUGEINT - r.score >= $min_score_gap
    AND ($min_score_ratio IS NULL OR (c.score > 0 AND c.score::DOUBLE >= $min_score_ratio * r.score::DOUBLE))
    AND ($within_seconds IS NULL OR abs(c.timestamp - r.timestamp) <= $within_seconds)
    AND (c.timestamp >= r.timestamp OR NOT $later_only)
"""
# A gap between two scores of 64 bits may need more; the column has the largest that it can hold.
PAIRS_KEPT = """
CREATE TABLE pairs AS
SELECT c.parent, c.position AS chosen, r.position AS rejected, c.score AS score_chosen, r.score AS score_rejected,
    least(c.score::HUGEINT - r.score, 9223372036854775807)::BIGINT AS score_gap, c.id AS chosen_id, r.id AS rejected_id,
    c.rank AS rank_chosen, r.rank AS rank_rejected, abs(c.timestamp - r.timestamp) AS seconds_apart,
    c.timestamp > r.timestamp AS chosen_is_later, c.characters > r.characters AS chosen_is_longer {margin}
FROM (
    FROM candidates
    QUALIFY row_number() OVER (PARTITION BY parent ORDER BY digest, chosen, rejected) <= $pairs_per_group
) AS kept
JOIN answers AS c ON c.parent = kept.parent AND c.rank = kept.chosen
JOIN answers AS r ON r.parent = kept.parent AND r.rank = kept.rejected
"""
# Scores below 1 count as 1, which has a logarithm. Llama 2 (Touvron et al. 2023) uses margins of up to 3.
MARGINS: dict[Margin, str] = {
    "none": "",
    "log": ", least(ln(greatest(c.score, 1)::DOUBLE / greatest(r.score, 1)), 3.0) AS margin",
}

REJECTED = """
CREATE TABLE rejected AS
SELECT parent, position, height FROM answers WHERE score < best
QUALIFY row_number() OVER (PARTITION BY parent ORDER BY digest, rank) <= $pairs_per_group
"""

SEEN_BY_TEACHER: dict[Privileged, str] = {
    "rejected": "CREATE VIEW seen_by_teacher AS FROM rejected",
    "replies": """
        CREATE TABLE seen_by_teacher AS
        SELECT answered AS parent, position, rank AS height
        FROM (SELECT parent AS answered, position AS best FROM answers WHERE height = 1) JOIN replies ON parent = best
        QUALIFY row_number() OVER (PARTITION BY answered ORDER BY rank) <= $pairs_per_group
    """,
}
HEADINGS: dict[Privileged, str] = {
    "rejected": "Other replies, which readers rated lower:",
    "replies": "What the reply was answered with:",
}
SEEN = """
CREATE TABLE seen AS
SELECT parent, array_to_string(list_select(unsorted, list_grade_up(heights)), getvariable('blank_line')) AS replies
FROM (
    SELECT parent, list(height) AS heights, list(content) AS unsorted
    FROM seen_by_teacher JOIN contents USING (position) GROUP BY parent
)
"""

# The path ends with an assistant's message: a last one of the user's is left out.
BEST_PATH = """
CREATE TABLE best_path AS
WITH RECURSIVE best AS (SELECT parent, position FROM replies WHERE rank = 1), path AS (
    SELECT root, root AS position, 0 AS step FROM roots
    UNION ALL
    SELECT path.root, best.position, path.step + 1 FROM path JOIN best ON best.parent = path.position
)
SELECT * FROM path QUALIFY step < count(*) OVER (PARTITION BY root) // 2 * 2
"""
BEST_TEXTS = """
CREATE TABLE best_texts AS
SELECT root, list_select(unsorted, list_grade_up(steps)) AS contents
FROM (
    SELECT root, list(step) AS steps, list(CASE WHEN step % 2 = 0 THEN segment ELSE content END) AS unsorted
    FROM best_path JOIN contents USING (position) GROUP BY root
)
"""

NUMBER_OF_GROUPS = "SELECT count(*) AS groups FROM answers WHERE height = 1"

COUNTS = """
SELECT $tied AS groups_tied, $unasked AS groups_without_prompt,
    (SELECT count(*) FROM conversations) - (SELECT count(*) FROM roots) AS roots_left_out,
    (SELECT count(*) FROM ranked JOIN texts USING (position) WHERE NOT visible) AS replies_without_text,
    (SELECT count(*) FROM unfit) AS texts_excluded,
    (SELECT count(*) FROM answers) AS replies_compared, (SELECT count(*) FROM candidates) AS pairs_possible,
    (SELECT count(*) FROM prompts WHERE shortened) AS prompts_shortened,
    (SELECT count(*) FROM pairs WHERE chosen_is_later) AS pairs_whose_later_reply_is_chosen,
    (SELECT count(*) FROM pairs WHERE chosen_is_longer) AS pairs_whose_longer_reply_is_chosen
"""
# What no configuration reads, so that a large shard's rows need not go to disk.
DROP = "DROP VIEW contents; " + "".join(
    f"DROP TABLE {table}; " for table in ("texts", "replies", "above", "context", "few", "candidates", "best_path")
)


def columns(configuration: Configuration, settings: PreferenceSettings) -> tuple[str, ...]:
    """Return the columns of a configuration; the setting `margin` adds one to `pairs`."""
    margin = ("margin",) if configuration is PAIRS and settings.margin != "none" else ()
    return (*configuration.columns, *margin, *ORIGIN)


def write_preferences(
    utterances: Path,
    ranked: Path,
    out: Path,
    settings: PreferenceSettings | None = None,
    engine: Engine | None = None,
    work: Path | None = None,
) -> Counts:
    """Write each configuration as `out/CONFIGURATION/SPLIT-00000-of-00001.parquet`.

    The folder `work` keeps finished shards until all are finished. Return counts of groups, of pairs before and after
    their choice, and of the rows of each configuration and split.
    """
    settings, engine = settings or PreferenceSettings(), engine or Engine()
    names = [shard.name for shard in shards_of(ranked)]

    def make(name: str, folder: Path, engine: Engine) -> Counts:
        return preference_shard(utterances / name, ranked / name, folder, settings, engine)

    with work_folder(work, out) as finished, engine.connect(out / "spill") as connection:
        counts = map_shards(names, make, finished, finished / "shards", engine)
        for configuration in CONFIGURATIONS.values():
            (out / configuration.name).mkdir(parents=True, exist_ok=True)
            rows = nullable(columns(configuration, settings), "conversation_id >= ''")
            for split in SPLITS:
                parts = [finished / name / f"{configuration.name}-{split}.parquet" for name in names]
                file = out / split_file(split, configuration.name)
                join_shards(connection, engine, f"{configuration.name} of {split}", rows, parts, file)
    return counts


def preference_shard(utterances: Path, ranked: Path, out: Path, settings: PreferenceSettings, engine: Engine) -> Counts:
    """Write the rows of one shard as `out/CONFIGURATION-SPLIT.parquet`, in the order of the dataset; return counts."""
    with engine.connect(out / "spill") as connection:
        create_utterances(connection, utterances)
        connection.read_parquet(str(ranked / RANKED_REPLIES), hive_partitioning=False).create_view("ranked")
        variables = {"seed": settings.seed, "heading": HEADINGS[settings.privileged] + "\n\n", "blank_line": "\n\n"}
        for name, value in variables.items():
            connection.execute(f"SET VARIABLE {name} = $1", [value])
        connection.execute(COMPLETION_FORMS[settings.form])

        join, rows, conversations = create_pseudonyms(connection, settings.speakers, settings.mentions)
        names = {"join": join, "rows": rows, "conversations": conversations}
        engine.run(connection, "reading texts", TEXTS.format(**names))
        connection.execute(CONTENTS.format(segment=SEGMENTS[settings.speakers]))
        train, validation, test = settings.shares
        split = split_sql("conversation_id", (train, validation, test))
        of_roots = {"min_root_score": settings.min_root_score, "self_posts_only": settings.self_posts_only}
        connection.execute("CREATE TABLE unfit (position BIGINT)")
        if settings.max_words is not None or settings.exclude_quotations:
            of_texts = {"max_words": settings.max_words, "exclude_quotations": settings.exclude_quotations}
            engine.run(connection, "finding texts that do not fit", UNFIT, of_texts)
        engine.run(connection, "finding roots", ROOTS.format(split=split), of_roots)
        of_replies = {
            "top_level_only": settings.top_level_only,
            "exclude_root_speaker": settings.exclude_root_speaker,
        }
        engine.run(connection, "finding replies", REPLIES, of_replies)
        engine.run(connection, "grouping replies", ANSWERS)
        left_out = {}
        for name, statement in {"tied": TIED, "unasked": UNASKED}.items():
            before = only_row(connection, NUMBER_OF_GROUPS)["groups"]
            connection.execute(statement)
            left_out[name] = before - only_row(connection, NUMBER_OF_GROUPS)["groups"]
        connection.execute(GROUPS)

        limits = {"max_turns": settings.max_turns, "max_characters": settings.max_characters}
        connection.execute(ABOVE)
        engine.run(connection, "finding contexts", CONTEXT, limits)
        prompts = PROMPTS.format(prompt=PROMPT_FORMS[settings.form], content=TURN_CONTENTS[settings.source])
        engine.run(connection, "writing prompts", prompts)

        engine.run(connection, "collecting replies", ANSWERS_WITH_TEXTS)

        connection.execute(FEW, {"replies_per_group": settings.replies_per_group})
        candidates = CANDIDATES.format(compared=COMPARED[settings.pairs])
        of_pairs = {
            "min_score_gap": settings.min_score_gap,
            "min_score_ratio": settings.min_score_ratio,
            "within_seconds": settings.within_seconds,
            "later_only": settings.later_only,
        }
        engine.run(connection, "comparing replies", candidates, of_pairs)
        per_group = {"pairs_per_group": settings.pairs_per_group}
        engine.run(connection, "choosing pairs", PAIRS_KEPT.format(margin=MARGINS[settings.margin]), per_group)
        connection.execute(REJECTED, per_group)
        seen = SEEN_BY_TEACHER[settings.privileged]
        connection.execute(seen, per_group if settings.privileged == "replies" else None)
        engine.run(connection, "collecting the teacher's contexts", SEEN)
        engine.run(connection, "following the best replies", BEST_PATH)
        engine.run(connection, "collecting the best replies", BEST_TEXTS)

        counts = only_row(connection, COUNTS, left_out)
        connection.execute(DROP)
        for configuration in CONFIGURATIONS.values():
            counts |= write_configuration(connection, engine, configuration, out, settings)
        return counts


def write_configuration(
    connection: "DuckDBPyConnection",
    engine: Engine,
    configuration: Configuration,
    out: Path,
    settings: PreferenceSettings,
) -> Counts:
    """Write the rows of one configuration, a file a split; return their numbers."""
    name = configuration.name
    engine.run(connection, f"collecting {name}", f"CREATE OR REPLACE TEMP TABLE rows AS {configuration.query}")
    rows = f"""
        SELECT {nullable(columns(configuration, settings), "place >= 0")}
        FROM (FROM rows JOIN {configuration.joined} WHERE split = $split ORDER BY place, turn)
    """  # noqa: S608
    counts = {}
    for split in SPLITS:
        file = out / f"{name}-{split}.parquet"
        engine.write(connection, f"writing {name} of {split}", rows, file, {"split": split}, PUBLISHED)
        counts[f"{name}.{split}"] = row_count([str(file)])
    return {name: sum(counts.values())} | counts
