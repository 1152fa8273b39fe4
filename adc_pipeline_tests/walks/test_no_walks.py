"""A corpus that gives no walk ends the run, with the numbers that explain it."""

import json
from pathlib import Path
from typing import Any

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.settings import UtteranceSettings
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.ranking.ranked_replies import write_ranked_replies
from adc_pipeline.ranking.settings import RankingSettings
from adc_pipeline.walks.datasets import write_walks
from adc_pipeline.walks.no_walks import refuse_no_walks

POSTS: list[dict[str, Any]] = [
    {"id": f"p{number}", "title": f"Post {number}", "selftext": "text", "author": "ann", "subreddit": "sheds",
     "created_utc": number, "score": number}
    for number in range(6)
]  # fmt: skip
COMMENTS: list[dict[str, Any]] = [
    {"id": f"c{number}", "link_id": "t3_p1", "parent_id": "t3_p1", "body": f"reply {number}", "author": "bob",
     "subreddit": "sheds", "created_utc": 9 + number, "score": number}
    for number in range(4)
]  # fmt: skip


def check(folder: Path, lines: list[dict[str, Any]], **settings: Any) -> None:
    """Make the walks of a dump of these lines and ask whether there are any."""
    dump = folder / "dump.jsonl"
    dump.write_text("".join(json.dumps(line) + "\n" for line in lines))
    read = write_utterances(dump, folder / "utterances", UtteranceSettings(max_set_aside=1.0))
    ranked = write_ranked_replies(folder / "utterances", folder / "ranked", RankingSettings(**settings))
    walks = write_walks("top-2", folder / "utterances", folder / "ranked", folder / "walks")
    refuse_no_walks(walks, read, ranked)


def test_walks_are_not_refused(tmp_path: Path) -> None:
    check(tmp_path, [*POSTS, *COMMENTS])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lines", "settings", "sentence"),
    [
        (POSTS, {}, r"nothing answers the 6 roots .* no replies\. .* comments"),
        (
            [*POSTS, COMMENTS[0] | {"parent_id": "t1_gone"}, COMMENTS[1] | {"score": None}],
            {},
            r"of 8 utterances, 1 missing_parent, 1 no_score are set aside, and the others are no replies: correct the",
        ),
        (
            [*POSTS, *(line | {"score_hidden": True} for line in COMMENTS)],
            {},
            r"all 4 replies .*scores are hidden",
        ),
        (COMMENTS[:1], {}, r"the 1 roots are replies themselves.* the file of the posts"),
        (
            [*POSTS, *(line | {"link_id": "t3_q", "parent_id": "t3_q"} for line in COMMENTS)],
            {},
            r"4 root_outside are set aside\. .* the posts that the replies answer",
        ),
        ([*POSTS, *(line | {"body": "[removed]"} for line in COMMENTS)], {}, r"all 4 replies .*4 deleted"),
        ([*POSTS, *COMMENTS], {"min_score": 99}, r"4 min_score.*change the filters"),
        (
            [
                *POSTS,
                COMMENTS[0] | {"body": ""},
                COMMENTS[1] | {"author": "AutoModerator"},
                COMMENTS[2] | {"body": " "},
            ],
            {},
            r"all 3 replies .*\(2 empty, 1 speaker\), most of them because their texts are empty",
        ),
    ],
    ids=[
        "posts alone",
        "replies set aside",
        "hidden scores",
        "replies alone",
        "roots outside",
        "removed",
        "min_score",
        "several reasons",
    ],
)
def test_no_walks_are_refused_with_the_counts(
    tmp_path: Path, lines: list[dict[str, Any]], settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(PipelineError, match=sentence):
        check(tmp_path, lines, **settings)


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        (
            {"roots": 2, "taking_part": 2, "adopted_roots": 1},
            "2 roots .* 1 of which answer what is not in it.* spelled",
        ),
        (
            {"roots": 1, "taking_part": 1, "set_aside": 3, "set_aside.missing_parent": 3},
            "of 4 utterances, 3 missing_parent are set aside, .*: check what names the parents",
        ),
    ],
)
def test_replies_that_answer_nothing_here_are_named(counts: dict[str, float], sentence: str) -> None:
    read = {"read": 4, "set_aside": 0} | counts
    with pytest.raises(PipelineError, match=sentence):
        refuse_no_walks({"walks": 0}, read, {})
