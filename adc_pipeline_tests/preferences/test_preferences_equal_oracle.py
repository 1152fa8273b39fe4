"""The preferences of DuckDB equal those of the oracle, in every row and in their order, for any settings.

First groups written down by hand, which document the rules. Then DuckDB against the oracle on generated trees and
under a wide post, and the bytes of the files against themselves for other threads, shards and orders of the source.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import adc_pipeline
from adc_pipeline.core.engine import Engine
from adc_pipeline.corpus.settings import UtteranceSettings
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.preferences.checks import empty_rows, pairs_out_of_order
from adc_pipeline.preferences.configurations import CONFIGURATIONS
from adc_pipeline.preferences.datasets import columns, write_preferences
from adc_pipeline.preferences.settings import PreferenceSettings
from adc_pipeline.ranking.ranked_replies import write_ranked_replies
from adc_pipeline.ranking.settings import RankingSettings
from adc_pipeline.walks.files import split_file
from adc_pipeline.walks.grammar import conversations_in_two_splits
from adc_pipeline.walks.splits import SPLITS
from adc_pipeline_tests import oracle, trees
from adc_pipeline_tests.benchmarks.reddit_shape import write_corpus
from adc_pipeline_tests.preferences.oracle import Oracle

ALL_TEST = (0, 0, 100)
PRESETS = Path(adc_pipeline.__file__).parent / "presets"


def made(
    directory: Path,
    out: Path,
    setting: PreferenceSettings,
    ranking: RankingSettings | None = None,
    shards: int = 1,
    engine: Engine | None = None,
) -> Path:
    """Run the stages on the ConvoKit corpus in `directory` and return the folder of the preferences in `out`."""
    read = UtteranceSettings(max_set_aside=1.0, shards=shards)
    write_utterances(directory, out / "utterances", read, engine)
    write_ranked_replies(out / "utterances", out / "ranked", ranking, engine)
    write_preferences(out / "utterances", out / "ranked", out / "preferences", setting, engine)
    return out / "preferences"


def rows_of(folder: Path, name: str, split: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder / split_file(split, name)).to_pylist()  # type: ignore[arg-type]
    return rows


def files(folder: Path) -> list[Path]:
    return [folder / split_file(split, name) for name in CONFIGURATIONS for split in SPLITS]


def digests(folder: Path) -> list[str]:
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files(folder)]


# --- By hand ------------------------------------------------------------------------------------------

Reply = tuple[str, str, int, int]


def thread(folder: Path, replies: Sequence[Reply], root_score: int = 20) -> Path:
    """Write a conversation: a root `r` of ann's with a title, and replies as (id, parent, score, seconds)."""
    rows = [trees.Row("r", "r", None, "ann", "Why?", 0, {"score": root_score})]
    rows += [trees.Row(id, "r", to, f"by {id}", f"text of {id}", at, {"score": score}) for id, to, score, at in replies]
    return trees.Corpus(rows, {"r": {"title": "Title", "subreddit": "fixit"}}).write(folder)


THREAD: list[Reply] = [
    ("a", "r", 9, 100),
    ("b", "r", 5, 5_000),
    ("c", "r", 5, 200),
    ("d", "r", 1, 300),
    ("aa", "a", 3, 400),
    ("ab", "a", 2, 500),
    ("aaa", "aa", 1, 600),
]


@pytest.fixture(scope="module")
def ranked_thread(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("thread")
    made(thread(folder / "corpus", THREAD), folder, PreferenceSettings(shares=ALL_TEST))
    return folder


def of_thread(ranked_thread: Path, out: Path, **values: Any) -> Path:
    """Return the folder of the preferences of THREAD; every conversation is in the test split."""
    setting = PreferenceSettings(shares=ALL_TEST, **values)
    write_preferences(ranked_thread / "utterances", ranked_thread / "ranked", out, setting)
    return out


@pytest.mark.fast_first
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # b and c have equal scores, so they make no pair.
        ({}, {"a>b", "a>c", "a>d", "b>d", "c>d", "aa>ab"}),
        ({"pairs": "best-rest"}, {"a>b", "a>c", "a>d", "aa>ab"}),
        ({"pairs": "adjacent"}, {"a>c", "b>d", "aa>ab"}),
        ({"pairs": "consecutive"}, {"a>c", "c>d", "b>d", "aa>ab"}),
        ({"min_score_gap": 4}, {"a>b", "a>c", "a>d", "b>d", "c>d"}),
        ({"min_score_ratio": 2}, {"a>d", "b>d", "c>d"}),
        ({"within_seconds": 100}, {"a>c", "c>d", "aa>ab"}),
        ({"later_only": True}, {"b>d"}),
        ({"top_level_only": True}, {"a>b", "a>c", "a>d", "b>d", "c>d"}),
        ({"min_root_score": 21}, set()),
        ({"max_words": 2}, set()),
        # The root has two words, d three.
        ({"max_words": 3, "top_level_only": True}, {"a>b", "a>c", "a>d", "b>d", "c>d"}),
    ],
)
def test_which_replies_make_a_pair(
    ranked_thread: Path, tmp_path: Path, values: dict[str, Any], expected: set[str]
) -> None:
    rows = rows_of(of_thread(ranked_thread, tmp_path, **values), "pairs", "test")
    assert {f"{row['chosen_id']}>{row['rejected_id']}" for row in rows} == expected


@pytest.mark.parametrize(("preset", "expected"), [("shp", {"b>d"}), ("dialogrpt", {"a>c", "c>d", "aa>ab"})])
def test_a_preset_makes_the_pairs_of_its_dataset(
    ranked_thread: Path, tmp_path: Path, preset: str, expected: set[str]
) -> None:
    config = yaml.safe_load((PRESETS / f"{preset}.yaml").read_text())["ops"]["preferences"]["config"]
    rows = rows_of(of_thread(ranked_thread, tmp_path, **config), "pairs", "test")
    assert {f"{row['chosen_id']}>{row['rejected_id']}" for row in rows} == expected


def test_a_row_of_each_configuration(ranked_thread: Path, tmp_path: Path) -> None:
    folder = of_thread(ranked_thread, tmp_path, margin="log", source="in_prompt", speakers="names")
    first = {"role": "user", "content": "Community: fixit\n\nann\nTitle\nWhy?"}
    deeper = [{**first, "role": "assistant"}, {"role": "user", "content": "by a\ntext of a"}]

    def says(id: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": f"text of {id}"}]

    origin = {"source": "fixit", "conversation_id": "r"}
    found = {name: rows_of(folder, name, "test") for name in CONFIGURATIONS}
    (pair,) = [row for row in found["pairs"] if row["chosen_id"] == "aa"]
    assert pair == {
        "prompt": deeper, "chosen": says("aa"), "rejected": says("ab"), "score_chosen": 3, "score_rejected": 2,
        "score_gap": 1, "chosen_id": "aa", "rejected_id": "ab", "rank_chosen": 1, "rank_rejected": 2,
        "seconds_apart": 100, "chosen_is_later": False, "margin": pytest.approx(0.405465), **origin,
    }  # fmt: skip
    assert [[answer["id"] for answer in row["answers"]] for row in found["groups"]] == [
        ["aa", "ab"],
        ["a", "c", "b", "d"],
    ]
    assert found["groups"][1]["answers"][1] == {"answer": "text of c", "rank": 2, "score": 5, "id": "c", "time": 200}
    triple = {"prompt": [first], "reference": says("a"), "chosen": says("c"), "rejected": says("d"), **origin}
    assert found["triples"] == [triple]
    verdicts = [(row["completion"][0]["content"][8:], row["label"]) for row in found["verdicts"]]
    assert verdicts == [("aa", True), ("ab", False), ("a", True), ("c", False), ("b", False), ("d", False)]
    assert found["privileged"][1] == {
        "prompt": [first],
        "completion": says("a"),
        "privileged_context": "Other replies, which readers rated lower:\n\ntext of c\n\ntext of b\n\ntext of d",
        **origin,
    }
    # The last reply of the path, aaa, would be the assistant's; aa the user's.
    messages = [first, *says("a"),
                {"role": "user", "content": "by aa\ntext of aa"}, *says("aaa")]  # fmt: skip
    assert found["messages"] == [{"messages": messages, **origin}]
    for name, rows in found.items():
        assert list(rows[0]) == list(columns(CONFIGURATIONS[name], PreferenceSettings(margin="log")))


@pytest.mark.slow
def test_a_long_prompt_keeps_its_root_and_what_is_answered(tmp_path: Path) -> None:
    chain: list[Reply] = [(f"c{n}", f"c{n - 1}" if n else "r", 1, n) for n in range(6)]
    directory = thread(tmp_path / "corpus", [*chain, ("x", "c5", 2, 9), ("y", "c5", 1, 9)])
    made(directory, tmp_path, PreferenceSettings())

    def prompt(**values: Any) -> list[str]:
        (row,) = rows_of(of_thread(tmp_path, tmp_path / str(values), **values), "pairs", "test")
        return [message["content"] for message in row["prompt"]]

    assert prompt() == ["Title\nWhy?", *(f"text of c{n}" for n in range(6))]
    assert prompt(max_turns=3) == ["Title\nWhy?", "text of c4", "text of c5"]
    assert prompt(max_characters=39) == ["Title\nWhy?", "text of c4", "text of c5"]
    assert prompt(max_characters=20) == ["Title\nWhy?", "text of c5"]
    assert prompt(max_characters=12) == ["Title\n", "text o"]


def test_a_lower_score_may_be_better(tmp_path: Path) -> None:
    directory = thread(tmp_path / "corpus", [("a", "r", 0, 1), ("b", "r", 1, 2), ("c", "r", 1, 3)])
    ranking = RankingSettings(score_order="lower")
    folder = made(directory, tmp_path / "out", PreferenceSettings(shares=ALL_TEST), ranking)
    rows = rows_of(folder, "pairs", "test")
    assert [(row["chosen_id"], row["rejected_id"], row["score_gap"]) for row in rows] == [("a", "b", 1), ("a", "c", 1)]


def test_what_a_reply_was_answered_with_belongs_to_it_wherever_it_stands(tmp_path: Path) -> None:
    """An optimizer of DuckDB 2.0.1 took the answer's parent for the group (see `engine.connected`)."""
    replies: list[Reply] = [("c", "a", 7, 1), ("a", "r", 6, 2), ("b", "r", -1, 3)]
    rows = [trees.Row(id, "r", to, "ann", f"text of {id}", at, {"score": score}) for id, to, score, at in replies]
    rows.append(trees.Row("r", "r", None, "ann", "Why?", 0, {"score": 1}))
    directory = trees.Corpus(rows, {"r": {"title": "Title", "subreddit": "fixit"}}).write(tmp_path / "corpus")
    folder = made(directory, tmp_path / "out", PreferenceSettings(shares=ALL_TEST, privileged="replies"))
    (row,) = rows_of(folder, "privileged", "test")
    assert row["completion"][0]["content"] == "text of a"
    assert row["privileged_context"] == "What the reply was answered with:\n\ntext of c"


# --- DuckDB against the oracle ------------------------------------------------------------------------


def assert_equal_to_oracle(folder: Path, ranking: oracle.Ranking, setting: PreferenceSettings) -> None:
    expected = Oracle(ranking, setting).rows
    for name in CONFIGURATIONS:
        for split in SPLITS:
            found, wanted = rows_of(folder, name, split), expected[name][split]
            if setting.margin == "log" and name == "pairs":
                assert [row.pop("margin") for row in found] == pytest.approx([row.pop("margin") for row in wanted])
            assert found == wanted, (name, split)


preference_settings = st.builds(
    PreferenceSettings,
    form=st.sampled_from(["conversational", "text"]),
    speakers=st.sampled_from(["none", "names", "pseudonyms"]),
    source=st.sampled_from(["none", "in_prompt"]),
    max_turns=st.sampled_from([2, 3, 16]),
    max_characters=st.sampled_from([2, 30, 3000]),
    pairs=st.sampled_from(["all", "best-rest", "adjacent", "consecutive"]),
    pairs_per_group=st.sampled_from([1, 2, 5]),
    replies_per_group=st.sampled_from([2, 3, 50]),
    min_score_gap=st.sampled_from([1, 1, 3]),
    min_score_ratio=st.sampled_from([None, None, 1.5]),
    within_seconds=st.sampled_from([None, None, 0, 3600]),
    later_only=st.sampled_from([False, False, True]),
    min_root_score=st.sampled_from([None, None, 0]),
    self_posts_only=st.sampled_from([False, False, True]),
    top_level_only=st.sampled_from([False, False, True]),
    exclude_root_speaker=st.sampled_from([False, False, True]),
    max_words=st.sampled_from([None, None, None, 1, 3]),
    exclude_quotations=st.sampled_from([False, False, True]),
    margin=st.sampled_from(["none", "log"]),
    privileged=st.sampled_from(["rejected", "replies"]),
    seed=st.sampled_from([0, 7, -1]),
    shares=st.sampled_from([(90, 5, 5), (34, 33, 33), ALL_TEST]),
)
ranking_settings = st.sampled_from(
    [
        RankingSettings(),
        RankingSettings(deleted=False, empty=False, speakers=(), stickied=False, score_hidden=False),
        RankingSettings(deleted=False, empty=False, order="released"),
        RankingSettings(score_order="lower"),
    ]
)


@pytest.mark.slow
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(trees.corpora(), ranking_settings, preference_settings, st.sampled_from([1, 1, 1, 3]))
def test_preferences_equal_the_oracle_on_generated_trees_for_any_settings(
    corpus: trees.Corpus, ranking: RankingSettings, setting: PreferenceSettings, shards: int
) -> None:
    with TemporaryDirectory() as temporary:
        directory = corpus.write(Path(temporary) / "corpus")
        folder = made(directory, Path(temporary) / "out", setting, ranking, shards)
        assert_equal_to_oracle(folder, oracle.rank(oracle.load(directory), ranking), setting)
        assert not any(empty_rows(folder, setting.form, Engine()).values())
        assert pairs_out_of_order(folder, Engine()) == 0
        assert conversations_in_two_splits(folder, Engine()) == 0


@pytest.mark.slow
def test_preferences_equal_the_oracle_under_a_wide_post(tmp_path: Path) -> None:
    replies: list[Reply] = [(f"w{n}", "r", n % 97, n // 3) for n in range(400)]
    directory = thread(tmp_path / "corpus", replies)
    setting = PreferenceSettings(shares=ALL_TEST)
    folder = made(directory, tmp_path / "out", setting)
    assert_equal_to_oracle(folder, oracle.rank(oracle.load(directory), RankingSettings()), setting)
    assert len(rows_of(folder, "pairs", "test")) == 5


# --- The same bytes -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_threads_shards_and_the_order_of_the_rows_do_not_change_a_byte(tmp_path: Path) -> None:
    """DuckDB gives work to threads in units of 122,880 rows."""
    (tmp_path / "corpus").mkdir()
    write_corpus(tmp_path / "corpus", 130_000)
    one = made(tmp_path / "corpus", tmp_path / "one", PreferenceSettings(), engine=Engine(threads=1))
    utterances = tmp_path / "corpus" / "utterances.jsonl"
    utterances.write_text("".join(reversed(utterances.read_text().splitlines(keepends=True))))
    other = made(tmp_path / "corpus", tmp_path / "other", PreferenceSettings(), shards=3, engine=Engine(threads=2))
    assert digests(one) == digests(other)
