"""Who takes part, who is dropped and in which order siblings stand: DuckDB against the oracle.

First a few threads checked by hand, which document the oracle; then DuckDB against it on generated
trees. 15 s of CPU, nearly all of it 60 generated corpora at some 0.2 s each.
"""

from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adc_pipeline.corpus.missing_texts import create_text_macros
from adc_pipeline.corpus.settings import UtteranceSettings
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.ranking.ranked_replies import write_ranked_replies
from adc_pipeline.ranking.settings import RankingSettings
from adc_pipeline_tests import oracle, trees
from adc_pipeline_tests.oracle import Fault
from adc_pipeline_tests.stages import read, read_utterances
from adc_pipeline_tests.trees import Corpus, Row

EVERYTHING = RankingSettings(deleted=False, empty=False, speakers=(), stickied=False, score_hidden=False)


def utterance(
    id: str,
    reply_to: str | None,
    score: int | None = 1,
    timestamp: int = 0,
    text: str = "words",
    speaker: str = "ann",
    conversation_id: str = "r",
    position: int = 0,
) -> oracle.Utterance:
    return oracle.Utterance(
        id=id,
        conversation_id=conversation_id,
        reply_to=reply_to,
        speaker=speaker,
        text=text,
        timestamp=timestamp,
        score=score,
        position=position,
        title="Title",
        source="here",
        stickied=False,
        score_hidden=False,
    )


def ids(ranking: oracle.Ranking) -> dict[str, list[str]]:
    return {parent: [u.id for u in siblings] for parent, siblings in ranking.replies.items()}


# --- By hand ------------------------------------------------------------------------------------------


def test_siblings_stand_by_score_then_time_then_id() -> None:
    thread = [
        utterance("r", None),
        utterance("d", "r", score=2, timestamp=5),
        utterance("b", "r", score=2, timestamp=4),
        utterance("c", "r", score=-3, timestamp=1),
        utterance("a", "r", score=2, timestamp=5),
        utterance("e", "r", score=9, timestamp=9),
        utterance("f", "c", score=0),
    ]
    assert ids(oracle.rank(thread, RankingSettings())) == {"r": ["e", "b", "a", "d", "c"], "c": ["f"]}


def test_released_order_ranks_the_replies_to_the_root_only() -> None:
    thread = [
        utterance("r", None),
        utterance("z", "r", score=1, timestamp=9, position=1),
        utterance("y", "r", score=1, timestamp=8, position=2),
        utterance("x", "r", score=5, position=3),
        utterance("w", "x", score=1, position=4),
        utterance("v", "x", score=7, position=5),
    ]
    ranking = oracle.rank(thread, RankingSettings(order="released"))
    assert ids(ranking) == {"r": ["x", "z", "y"], "x": ["w", "v"]}


def test_a_dropped_reply_takes_its_subtree_with_it() -> None:
    thread = [
        utterance("r", None, text=""),
        utterance("a", "r", text=" [deleted] "),
        utterance("b", "a"),
        utterance("c", "b", speaker="AutoModerator", text=""),
        utterance("d", "c"),
        utterance("e", "r", speaker="AutoModerator"),
    ]
    ranking = oracle.rank(thread, RankingSettings())
    assert ranking.replies == {}
    assert ranking.dropped == {
        "a": Fault("deleted", None),
        "b": Fault("deleted", "a"),
        "c": Fault("empty", None),
        "d": Fault("empty", "c"),
        "e": Fault("speaker", None),
    }


def test_a_sibling_group_with_too_small_a_gap_goes_as_a_whole() -> None:
    thread = [
        utterance("r", None),
        utterance("a", "r", score=9),
        utterance("b", "r", score=6),
        utterance("c", "a", score=5),
        utterance("d", "a", score=3),
        utterance("e", "d", score=1),
        utterance("f", "b", score=-9),
        utterance("g", "f", score=9, text=""),
        utterance("h", "f", score=4),
        utterance("i", "f", score=0),
    ]
    ranking = oracle.rank(thread, RankingSettings(min_score_gap=3))
    assert ids(ranking) == {"r": ["a", "b"], "b": ["f"], "f": ["h", "i"]}
    gap = "min_score_gap"
    assert ranking.dropped == {
        "c": Fault(gap, None),
        "d": Fault(gap, None),
        "e": Fault(gap, "d"),
        "g": Fault("empty", None),
    }


def test_what_cannot_be_reached_from_the_root_is_set_aside() -> None:
    thread = [
        utterance("r", None, score=None),
        utterance("a", "r"),
        utterance("b", "gone"),
        utterance("c", "b", score=None),
        utterance("d", "c"),
        utterance("e", "f"),
        utterance("f", "e"),
        utterance("g", "f"),
        utterance("h", "h"),
        utterance("i", None),
        utterance("j", "i"),
        utterance("k", "elsewhere"),
        utterance("elsewhere", None, conversation_id="elsewhere"),
    ]
    assert oracle.set_aside(thread) == {
        "b": Fault("missing_parent", None),
        "c": Fault("no_score", None),
        "d": Fault("no_score", "c"),
        "e": Fault("loop", None),
        "f": Fault("loop", None),
        "g": Fault("loop", None),
        "h": Fault("loop", None),
        "i": Fault("second_root", None),
        "j": Fault("second_root", "i"),
        "k": Fault("other_conversation", None),
    }


def test_an_excerpt_has_the_one_utterance_whose_parent_lies_outside_as_its_root() -> None:
    excerpt = [utterance("a", "gone"), utterance("b", "a")]
    assert oracle.root_of({u.id: u for u in excerpt}) is excerpt[0]
    assert oracle.set_aside(excerpt) == {}
    assert set(oracle.set_aside(excerpt, adopt_roots=False)) == {"a", "b"}
    two = [*excerpt, utterance("c", "gone")]
    assert oracle.set_aside(two) == {
        "a": Fault("root_outside", None),
        "b": Fault("root_outside", "a"),
        "c": Fault("root_outside", None),
    }


def test_of_two_utterances_without_reply_to_the_one_named_like_the_conversation_is_the_root() -> None:
    early, named = utterance("a", None, timestamp=1), utterance("r", None, timestamp=2)
    assert oracle.root_of({"a": early, "r": named}) is named
    other = utterance("b", None, timestamp=1)
    assert oracle.root_of({"b": other, "a": early}) is early


NOTES = [
    "[removed]", "[ Deleted ]", "[ Removed by Reddit in response to a copyright notice. ]", "[UNAVAILABLE]",
    "[ Removed by Reddit on account of violating the [content policy](/help/contentpolicy). ]",
    "*[deleted]*", "\\[removed\\]", "[no longer available]", "[Gelöscht]", "[comentario eliminado]",
    "[Удалено]", "[削除済み]", "`[removed]`", "[Removed].", "[redacted]", "[data unavailable]", "[Deleted User]",
    "[Comment removed by moderator]", "[removed - rule 3]", "[post removed; author banned]", "[recipe removed]",
    "[User deleted their account]", "(deleted)", "<removed>", "&lt;deleted&gt;", "{Removed}", "*deleted*",
    "~~removed~~",
    "_Permanently Deleted_", "(post deleted by author)", "(removed by the mods)", "(this comment has been removed)",
    "*[removed by user]*", "（削除済み）", "【已删除】", "[[deleted]]",
    "[Account suspended]", "[This user has been banned]", "[comment hidden: low score]", "(post hidden by a moderator)",
]  # fmt: skip
TEXTS = [
    "[removed] was all", "[deleted] or [removed]", "[The deleted scene](https://films.example)", "[undeleted]",
    "*[deleted]* or not", "[]", "removed", f"[removed {'x' * 150}]", "[laughs]", "[the deleted scene]",
    "(removed the battery and it worked)", "[removed the battery and it worked]", "[I removed the lid]",
    "[not deleted]",
    "[when the lid is removed, it rattles]", "(deleted my account)", "(removed by hand)", "(not removed)",
    "*removed his hat*", "(deleted) it", "**removed** it", "<b>removed</b>", "[available]", "_removed the screws_",
    "[suspended]", "[hidden behind the door]", "[post hidden treasure]", "[my account was suspended]",
]  # fmt: skip


def test_a_note_of_removal_is_one_short_pair_of_brackets() -> None:
    assert [text for text in NOTES + TEXTS if oracle.is_note_of_removal(text)] == NOTES
    with duckdb.connect() as connection:
        create_text_macros(connection)
        found = [connection.execute("SELECT missing_text($1)", [text]).fetchall() for text in NOTES + TEXTS]
    assert found == [[("deleted",)]] * len(NOTES) + [[(None,)]] * len(TEXTS)


ELSEWHERE = [
    "[dihapus oleh moderator]", "[đã xóa]", "[تم الحذف]", "[נמחק]", "[हटाया गया]", "[törölve]", "[odstraněno]",
    "[διαγράφηκε]", "[ลบแล้ว]", "[usunięto]", "[retiré par la modération]", "[effacé]", "[smazáno]", "[obrisano]",
    "[șters]", "[изтрито]", "[silinmiş]", "[kaldırıldı]", "[ištrinta]", "[raderad]", "[已移除]",
]  # fmt: skip


def test_a_note_of_removal_may_be_in_another_language() -> None:
    with duckdb.connect() as connection:
        create_text_macros(connection)
        found = [connection.execute("SELECT missing_text($1)", [text]).fetchone() for text in ELSEWHERE]
        other = [connection.execute("SELECT missing_text($1)", [text[1:-1]]).fetchone() for text in ELSEWHERE]
    assert found == [("deleted",)] * len(ELSEWHERE)
    assert other == [(None,)] * len(ELSEWHERE)


@pytest.mark.slow
def test_rows_stand_in_the_order_of_the_source(tmp_path: Path) -> None:
    # As many rows, most of them dropped, as DuckDB needs to join the two tables the other way round.
    number, roots, kept = 30_000, 1000, 30
    rows = [
        Row(
            str(at),
            str(at % roots),
            str(at % roots) if at >= roots else None,
            "ann",
            "x",
            0,
            {"score": int(at % kept == 1)},
        )
        for at in range(number)
    ]
    write_utterances(Corpus(rows, {}).write(tmp_path / "corpus"), tmp_path / "utterances")
    counts = write_ranked_replies(tmp_path / "utterances", tmp_path / "ranked", RankingSettings(min_score=1))
    places = [place for (place,) in read(tmp_path / "ranked", "ranked_replies.parquet", "position")]
    assert places == [at for at in range(roots, number) if at % kept == 1]
    dropped = [place for (place,) in read(tmp_path / "ranked", "dropped.parquet", "position")]
    assert dropped == [at for at in range(roots, number) if at % kept != 1]
    assert counts["ranked"] == len(places)


def test_a_rank_of_which_0_is_the_best_is_ranked_upside_down() -> None:
    thread = [utterance("r", None), *(utterance(id, "r", score=rank) for rank, id in enumerate("dbca"))]
    settings = RankingSettings(score_order="lower", min_score=-2)
    assert ids(oracle.rank(thread, settings)) == {"r": ["d", "b", "c"]}


def test_a_reply_that_was_recorded_too_early_is_dropped_with_its_subtree() -> None:
    young, ripe = (replace(utterance(id, "r"), recorded_at=at) for id, at in (("a", 3599), ("b", 3600)))
    thread = [utterance("r", None), young, ripe, utterance("c", "r"), utterance("d", "a")]
    ranking = oracle.rank(thread, RankingSettings(min_age_hours=1))
    assert ids(ranking) == {"r": ["b", "c"]}
    assert ranking.dropped == {"a": Fault("min_age_hours", None), "d": Fault("min_age_hours", "a")}


# --- DuckDB against the oracle ------------------------------------------------------------------------


ranking_settings = st.builds(
    RankingSettings,
    deleted=st.booleans(),
    empty=st.booleans(),
    speakers=st.sampled_from([(), ("AutoModerator",), ("ann", "x<rejected>y", "nobody", "7")]),
    stickied=st.booleans(),
    score_hidden=st.booleans(),
    min_score=st.sampled_from([None, None, 0, 2]),
    min_score_gap=st.none(),
    order=st.sampled_from(["score", "released"]),
    min_age_hours=st.sampled_from([None, None, 1, 0.5]),
    score_order=st.sampled_from(["higher", "higher", "lower"]),
) | st.builds(RankingSettings, min_score_gap=st.sampled_from([0, 1, 2, 5]), min_score=st.sampled_from([None, 0]))


def assert_equal(folder: Path, utterances: list[oracle.Utterance], ranking: oracle.Ranking) -> None:
    """The tables of both stages in `folder` say what the oracle says."""
    utterances_folder, ranked_folder = folder / "utterances", folder / "ranked"
    taking_part = read_utterances(utterances_folder, "id, is_root, position, text, speaker, score")
    roots = {root.id for root in ranking.roots}
    assert taking_part == [
        (u.id, u.id in roots, u.position, u.text, u.speaker, u.score) for u in ranking.taking_part.values()
    ]
    assert {
        id: (conversation, position, Fault(reason, because_of))
        for id, conversation, position, reason, because_of in read(
            utterances_folder, "set_aside.parquet", "id, conversation_id, position, reason, because_of"
        )
    } == {
        u.id: (u.conversation_id, u.position, ranking.set_aside[u.id]) for u in utterances if u.id in ranking.set_aside
    }
    assert {
        id: (conversation, Fault(reason, because_of))
        for id, conversation, reason, because_of in read(
            ranked_folder, "dropped.parquet", "id, conversation_id, reason, because_of"
        )
    } == {id: (ranking.taking_part[id].conversation_id, fault) for id, fault in ranking.dropped.items()}
    assert set(read(ranked_folder, "ranked_replies.parquet", "id, reply_to, score, rank, siblings")) == {
        (u.id, parent, u.score, rank, len(siblings))
        for parent, siblings in ranking.replies.items()
        for rank, u in enumerate(siblings, 1)
    }


def ages_and_ties(ranking: oracle.Ranking) -> dict[str, int]:
    """The counts that say how much the scores tell."""
    replies = [u for u in ranking.taking_part.values() if u not in ranking.roots]
    ages = [u.recorded_at - u.timestamp for u in replies if u.recorded_at is not None]
    groups = [[u.score for u in siblings] for siblings in ranking.replies.values() if len(siblings) > 1]
    pairs = [list(combinations(scores, 2)) for scores in groups]
    tied = [2 * sum(a == b for a, b in group) > len(group) for group in pairs]
    counts = {"groups_of_two_or_more": len(groups), "groups_tied": sum(tied)}
    if ages:
        counts |= {
            "replies_with_recording_time": len(ages),
            "replies_recorded_within_an_hour": sum(age < 3600 for age in ages),
            "replies_recorded_within_a_day": sum(age < 86400 for age in ages),
        }
    return counts


def reasons(faults: dict[str, Fault], prefix: str) -> dict[str, int]:
    return dict(Counter(f"{prefix}.{fault.reason}" for fault in faults.values()))


@pytest.mark.slow
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    corpus=trees.corpora(),
    ranking=ranking_settings,
    adopt_roots=st.sampled_from([True, True, False]),
    shards=st.sampled_from([1, 1, 2, 5]),
)
def test_ranking_equals_the_oracle_on_generated_trees(
    corpus: trees.Corpus, ranking: RankingSettings, adopt_roots: bool, shards: int
) -> None:
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        directory = corpus.write(folder / "corpus")
        settings = UtteranceSettings(adopt_roots, max_set_aside=1.0, shards=shards)
        read_counts = write_utterances(directory, folder / "utterances", settings)
        counts = write_ranked_replies(folder / "utterances", folder / "ranked", ranking)

        utterances = oracle.load(directory)
        expected = oracle.rank(utterances, ranking, adopt_roots)
        assert_equal(folder, utterances, expected)

        assert read_counts["read"] == len(corpus.rows)
        assert read_counts["read"] == read_counts["taking_part"] + read_counts["set_aside"]
        assert counts["replies"] == counts["ranked"] + counts["dropped"]
        parts = counts["ranked"], counts["dropped"], len(expected.roots), read_counts["set_aside"]
        assert read_counts["read"] == sum(parts)
        found = {key: n for key, n in (read_counts | counts).items() if key.startswith(("set_aside.", "dropped."))}
        assert ages_and_ties(expected).items() <= counts.items()
        assert found == reasons(expected.set_aside, "set_aside") | reasons(expected.dropped, "dropped")
