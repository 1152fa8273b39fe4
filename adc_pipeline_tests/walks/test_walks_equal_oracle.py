"""The walks of DuckDB equal those of the oracle, in every text and turn.

First walks written down by hand, which document the oracle. Then DuckDB against it on generated trees,
on the sample corpus and, where they lie beside the repository, on two real ones; the preset `released`
against what the published generator does; and the bytes of the files against themselves. 45 s of CPU,
of which generated trees take 15 and the 150,000 utterances of the large sample as much again.
"""

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from math import sqrt
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adc_pipeline.core.engine import Engine
from adc_pipeline.corpus.sample.quality import quality
from adc_pipeline.corpus.sample.threads import write_sample
from adc_pipeline.corpus.settings import UtteranceSettings
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.ranking.ranked_replies import write_ranked_replies
from adc_pipeline.ranking.settings import RankingSettings
from adc_pipeline.walks.datasets import write_walks
from adc_pipeline.walks.settings import WalkSettings
from adc_pipeline.walks.splits import SPLITS
from adc_pipeline_tests import oracle, trees
from adc_pipeline_tests.oracle import Kind, Row, Utterance

KINDS: tuple[Kind, ...] = ("top-2", "random-walk", "ascending")
# Those of the public datasets.
PUBLISHED = KINDS[:2]
RELEASED_RANKING = RankingSettings(
    deleted=False, empty=False, speakers=(), stickied=False, score_hidden=False, order="released"
)
RELEASED = WalkSettings(format="released")
CORPORA = Path(__file__).parents[3] / "shared" / "corpora"

Dataset = dict[tuple[str, int], Row]


# --- By hand ------------------------------------------------------------------------------------------


def reply(id: str, reply_to: str | None, score: int, speaker: str, text: str) -> Utterance:
    return Utterance(id, "r", reply_to, speaker, text, 0, score, 0, "Ti<accepted>tle", "here", False, False)


THREAD = [
    reply("r", None, 1, "ann", "Why?\r"),
    reply("a", "r", 9, "bob", "e\u0301 👍🏽 <rejected>"),
    reply("b", "r", 3, "ann", "Because."),
    reply("c", "r", -1, "cy<background>", ""),
    reply("d", "a", 0, "bob", "Yes."),
]
PERMISSIVE = RankingSettings(empty=False)


def walk_by_hand(kind: Kind, seed: int, walk: WalkSettings) -> Row:
    ranking = oracle.rank(THREAD, PERMISSIVE)
    turns = oracle.walk_down(ranking.roots[0], ranking.replies, kind, seed, 0)
    return oracle.written(ranking.roots[0], turns, 0, ranking.taking_part, walk)


def test_top_2_shows_the_second_before_the_best_where_the_coin_of_their_parent_comes_up() -> None:
    up = next(seed for seed in range(99) if oracle.coin(seed, "top-2", 0, "r"))
    down = next(seed for seed in range(99) if not oracle.coin(seed, "top-2", 0, "r"))
    assert walk_by_hand("top-2", up, WalkSettings())["text"] == (
        "ann\nTi‹accepted›tle\nWhy?\r<background>"
        "ann\nBecause.<rejected>"
        "bob\ne\u0301 👍🏽 ‹rejected›<accepted>"
        "bob\nYes.<accepted>"
    )
    assert walk_by_hand("top-2", down, WalkSettings(format="released"))["text"] == (
        "ann\nTi<accepted>tle\nWhy?\r<BACKGROUND_INDEX_TOKEN>"
        "bob\ne\u0301 👍🏽 <rejected><SELECTED_UTTERANCE>"
        "bob\nYes.<SELECTED_UTTERANCE>"
    )


def test_random_walk_rejects_siblings_until_a_coin_accepts_one_and_always_accepts_the_last() -> None:
    def seed(a: bool, b: bool) -> int:
        coins = ([oracle.coin(seed, "random-walk", 0, id) for id in ("a", "b", "c", "d")] for seed in range(999))
        return next(n for n, found in enumerate(coins) if found == [a, b, True, True])

    def verdicts(seed: int) -> list[tuple]:
        turns = walk_by_hand("random-walk", seed, WalkSettings())["turns"]
        return [(t["utterance_id"], t["verdict"], t["rank"], t["siblings"]) for t in turns]

    assert verdicts(seed(False, True)) == [("a", "accepted", 1, 3), ("d", "accepted", 1, 1)]
    assert verdicts(seed(True, False)) == [("a", "rejected", 1, 3), ("b", "accepted", 2, 3)]
    assert verdicts(seed(True, True)) == [
        ("a", "rejected", 1, 3),
        ("b", "rejected", 2, 3),
        ("c", "accepted", 3, 3),
    ]


def test_ascending_shows_each_sibling_that_outranks_all_before_it_in_the_order_of_the_digests() -> None:
    def seed(order: str) -> int:
        return next(
            seed
            for seed in range(999)
            if "".join(sorted("abc", key=lambda id: oracle.digest(seed, "ascending", 0, id))) == order
        )

    def shown(order: str) -> list[tuple]:
        turns = walk_by_hand("ascending", seed(order), WalkSettings())["turns"]
        assert turns[-1]["utterance_id"] == "d"
        return [(t["utterance_id"], t["verdict"], t["rank"], t["siblings"]) for t in turns[:-1]]

    assert shown("cba") == [("c", "rejected", 3, 3), ("b", "rejected", 2, 3), ("a", "accepted", 1, 3)]
    # `c` does not outrank `b`.
    assert shown("bca") == shown("bac") == [("b", "rejected", 2, 3), ("a", "accepted", 1, 3)]
    assert shown("cab") == [("c", "rejected", 3, 3), ("a", "accepted", 1, 3)]
    assert shown("abc") == shown("acb") == [("a", "accepted", 1, 3)]


def test_speakers_appear_as_names_pseudonyms_or_not_at_all() -> None:
    up = next(seed for seed in range(99) if oracle.coin(seed, "top-2", 0, "r"))
    pseudonyms = walk_by_hand("top-2", up, WalkSettings(speakers="pseudonyms"))
    assert [turn["speaker"] for turn in pseudonyms["turns"]] == ["user1", "user2", "user2"]
    assert pseudonyms["text"].startswith("user1\nTi‹accepted›tle\nWhy?\r<background>user1\nBecause.<rejected>")
    nobody = walk_by_hand("top-2", up, WalkSettings(speakers="none"))
    assert nobody["turns"][0]["speaker"] is None
    assert nobody["text"].startswith("Ti‹accepted›tle\nWhy?\r<background>Because.<rejected>e\u0301 👍🏽")


# --- Invariants of every walk -------------------------------------------------------------------------


def assert_grammar(kind: Kind, row: Row, setting: WalkSettings) -> None:
    """Check that a record is a background, then segments and markers without gaps, at the recorded offsets."""
    text, turns, markers = row["text"], row["turns"], oracle.MARKERS[setting.format]
    assert turns
    first = turns[0]
    place = first["start"] - (0 if first["speaker"] is None else len(first["speaker"]) + 1)
    assert text[:place].endswith(markers["background"])
    for turn in turns:
        if turn["speaker"] is not None:
            line = turn["speaker"] + "\n"
            assert text[place : place + len(line)] == line
            place += len(line)
        assert turn["start"] == place <= turn["end"]
        marker = markers[turn["verdict"]]
        place = turn["end"] + len(marker)
        assert text[turn["end"] : place] == marker
        assert 1 <= turn["rank"] <= turn["siblings"]
    assert place == len(text)
    assert turns[-1]["verdict"] == "accepted"
    if setting.format == "default":
        verdicts = [turn["verdict"] for turn in turns]
        assert text.count(markers["background"]) == 1
        assert text.count(markers["accepted"]) == verdicts.count("accepted")
        assert text.count(markers["rejected"]) == verdicts.count("rejected")

    for before, turn in zip([None, *turns], turns, strict=False):
        rejected_before = before is not None and before["verdict"] == "rejected"
        if kind == "top-2":
            assert turn["rank"] == (1 if turn["verdict"] == "accepted" else 2)
            assert not (rejected_before and turn["verdict"] == "rejected")
        elif kind == "ascending":
            assert not rejected_before or turn["rank"] < before["rank"]
            assert (turn["verdict"] == "accepted") == (turn["rank"] == 1)
        else:
            assert turn["rank"] == (before["rank"] + 1 if before is not None and rejected_before else 1)
            assert turn["verdict"] == "accepted" or turn["rank"] < turn["siblings"]
        if before is not None and rejected_before:
            assert turn["siblings"] == before["siblings"]


# --- DuckDB against the oracle ------------------------------------------------------------------------


def run_to_ranking(
    directory: Path,
    out: Path,
    ranking: RankingSettings | None = None,
    adopt_roots: bool = True,
    engine: Engine | None = None,
    decode_entities: bool = True,
    shards: int = 1,
) -> Path:
    """Run the stages up to ranked replies on the ConvoKit corpus in `directory`; write to the folder `out`."""
    settings = UtteranceSettings(adopt_roots, max_set_aside=1.0, decode_entities=decode_entities, shards=shards)
    write_utterances(directory, out / "utterances", settings, engine)
    write_ranked_replies(out / "utterances", out / "ranked", ranking, engine)
    return out


def dataset_files(folder: Path) -> list[Path]:
    return [folder / "data" / f"{split}-00000-of-00001.parquet" for split in SPLITS]


def make_dataset(kind: Kind, ranked: Path, walk: WalkSettings, engine: Engine | None = None) -> Path:
    out = ranked / kind
    out.mkdir(exist_ok=True)
    write_walks(kind, ranked / "utterances", ranked / "ranked", out, walk, engine)
    return out


def read_dataset(folder: Path, shares: tuple[int, ...]) -> Dataset:
    """Return the rows of all three splits; check that each has the right conversations and no walk twice."""
    dataset: Dataset = {}
    for split, path in zip(SPLITS, dataset_files(folder), strict=True):
        for row in pq.read_table(path).to_pylist():
            assert split == oracle.split(row["conversation_id"], shares)
            key = row["conversation_id"], row["walk"]
            assert key not in dataset
            dataset[key] = row
    return dataset


def way_down(row: Row) -> list[str]:
    return [turn["utterance_id"] for turn in row["turns"] if turn["verdict"] == "accepted"]


def assert_walks_equal(ranked: Path, ranking: oracle.Ranking, walk: WalkSettings) -> None:
    datasets = {kind: read_dataset(make_dataset(kind, ranked, walk), walk.shares) for kind in KINDS}
    for kind, dataset in datasets.items():
        assert dataset == oracle.walks(kind, ranking, walk)
        for row in dataset.values():
            assert_grammar(kind, row, walk)
    # Only the histories differ. Walks whose text repeats are excluded by kind.
    for key in datasets["top-2"].keys() & datasets["ascending"].keys():
        assert way_down(datasets["top-2"][key]) == way_down(datasets["ascending"][key])


ranking_settings = st.sampled_from(
    [RankingSettings(), PERMISSIVE, RELEASED_RANKING, RankingSettings(min_score_gap=1, speakers=("ann",))]
)
walk_settings = st.builds(
    WalkSettings,
    seed=st.sampled_from([0, 1, -1, 2**63 - 1]),
    walks_per_conversation=st.integers(1, 3),
    exclude_repeats=st.booleans(),
    format=st.sampled_from(["default", "released"]),
    speakers=st.sampled_from(["names", "pseudonyms", "none"]),
    shares=st.sampled_from([(90, 5, 5), (34, 33, 33), (0, 0, 100)]),
)


@pytest.mark.slow
@settings(max_examples=9, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(corpus=trees.corpora(), ranking=ranking_settings, walk=walk_settings, shards=st.sampled_from([1, 1, 2, 5]))
def test_walks_equal_the_oracle_on_generated_trees_for_any_number_of_shards(
    corpus: trees.Corpus, ranking: RankingSettings, walk: WalkSettings, shards: int
) -> None:
    with TemporaryDirectory() as temporary:
        directory = corpus.write(Path(temporary) / "corpus")
        ranked = run_to_ranking(directory, Path(temporary) / "ranked", ranking, shards=shards)
        assert_walks_equal(ranked, oracle.rank(oracle.load(directory), ranking), walk)
        if shards == 1:
            return
        single = run_to_ranking(directory, Path(temporary) / "single", ranking)
        for kind in KINDS:
            for one, other in zip(
                dataset_files(ranked / kind), dataset_files(make_dataset(kind, single, walk)), strict=True
            ):
                assert one.read_bytes() == other.read_bytes()


@pytest.mark.slow
def test_walks_equal_the_oracle_in_a_long_chain_and_under_a_wide_post(tmp_path: Path) -> None:
    def row(id: str, conversation_id: str, reply_to: str | None, score: int) -> trees.Row:
        return trees.Row(id, conversation_id, reply_to, "ann", f"text of {id}", 0, {"score": score})

    chain = [row(f"c{n}", "c0", f"c{n - 1}" if n else None, n % 3) for n in range(1000)]
    wide = [row(f"w{n}", "w0", "w0" if n else None, n % 100) for n in range(1000)]
    directory = trees.Corpus([*chain, *wide], {"c0": {"title": "Chain"}}).write(tmp_path / "corpus")
    ranked = run_to_ranking(directory, tmp_path / "ranked")
    ranking = oracle.rank(oracle.load(directory), RankingSettings())
    assert [len(ranking.replies["c998"]), len(ranking.replies["w0"])] == [1, 999]
    assert_walks_equal(ranked, ranking, WalkSettings(walks_per_conversation=2))


@pytest.mark.slow
def test_ascending_shows_as_many_turns_as_a_random_order_has_records(tmp_path: Path) -> None:
    """1 + 1/2 + ... + 1/n on average, and every sibling equally likely to be the first."""
    siblings, walks = 12, 2_000
    rows = [trees.Row(f"w{n}", "w0", "w0" if n else None, "ann", f"text {n}", 0, {"score": -n}) for n in range(13)]
    directory = trees.Corpus(rows, {"w0": {"title": "Wide"}}).write(tmp_path / "corpus")
    ranked = run_to_ranking(directory, tmp_path / "ranked")
    setting = WalkSettings(walks_per_conversation=walks, exclude_repeats=False)
    dataset = read_dataset(make_dataset("ascending", ranked, setting), setting.shares)
    assert len(dataset) == walks
    shares = [1 / n for n in range(1, siblings + 1)]
    error = sqrt(sum(share * (1 - share) for share in shares) / walks)
    assert abs(sum(len(row["turns"]) for row in dataset.values()) / walks - sum(shares)) < 4 * error
    first = Counter(row["turns"][0]["rank"] for row in dataset.values())
    assert set(first) == set(range(1, siblings + 1))
    assert all(abs(count - walks / siblings) < 4 * sqrt(walks / siblings) for count in first.values())


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, conversations=300, seed=1)
    return folder


@pytest.mark.slow
def test_histories_improve_in_ascending_and_get_worse_in_random_walk(sample: Path, tmp_path: Path) -> None:
    """docs/explanation/walks.md shows these means for the sample of the default size."""
    ranked = run_to_ranking(sample, tmp_path / "ranked")

    def quality_by_rejected(kind: Kind) -> list[float]:
        """Return the mean quality of the next turn after k rejected ones, k from 0."""
        found: dict[int, list[int]] = defaultdict(list)
        for row in read_dataset(make_dataset(kind, ranked, WalkSettings()), WalkSettings().shares).values():
            rejected = 0
            for turn in row["turns"]:
                known = quality(row["text"][turn["start"] : turn["end"]])
                assert known is not None
                found[rejected].append(known)
                rejected = rejected + 1 if turn["verdict"] == "rejected" else 0
        return [sum(found[k]) / len(found[k]) for k in sorted(found) if len(found[k]) > 20]

    means = {kind: quality_by_rejected(kind) for kind in KINDS}
    assert len(means["ascending"]) == 4
    assert means["ascending"] == sorted(means["ascending"])
    assert means["ascending"][0] < 2.4 < 3.2 < means["ascending"][2]
    assert means["top-2"] == sorted(means["top-2"])
    assert len(means["top-2"]) == 2
    assert means["random-walk"] == sorted(means["random-walk"], reverse=True)


@pytest.fixture(params=["sample", "reddit-ai-jobs", "quantumcomputing-se"], scope="module")
def directory(request: pytest.FixtureRequest, sample: Path) -> Path:
    if request.param == "sample":
        return sample
    if not (CORPORA / request.param).is_dir():
        pytest.skip(f"{request.param} does not lie beside the repository")
    return CORPORA / request.param


@pytest.fixture(scope="module")
def utterances(directory: Path) -> list[Utterance]:
    return oracle.load(directory)


@pytest.mark.slow
@pytest.mark.parametrize(
    "walk",
    [WalkSettings(), WalkSettings(seed=5, walks_per_conversation=3, speakers="pseudonyms")],
    ids=["default settings", "several walks"],
)
def test_walks_equal_the_oracle_on_whole_corpora(
    directory: Path, utterances: list[Utterance], walk: WalkSettings, tmp_path: Path
) -> None:
    ranked = run_to_ranking(directory, tmp_path / "ranked")
    assert_walks_equal(ranked, oracle.rank(utterances, RankingSettings()), walk)


# --- The published generator --------------------------------------------------------------------------


def published(directory: Path, kind: Kind, seed: int) -> dict[tuple[str, int], str]:
    import convokit

    texts = {
        conversation.id: oracle.published_walk(conversation, kind, seed)
        for conversation in convokit.Corpus(filename=str(directory)).iter_conversations()
    }
    return {(id, 0): text for id, text in texts.items() if text is not None}


def assert_released_is_published(directory: Path, ranked: Path, seed: int) -> None:
    run_to_ranking(directory, ranked, RELEASED_RANKING, adopt_roots=False, decode_entities=False)
    for kind in PUBLISHED:
        walk = WalkSettings(seed=seed, format="released")
        dataset = read_dataset(make_dataset(kind, ranked, walk), walk.shares)
        assert {key: row["text"] for key, row in dataset.items()} == published(directory, kind, seed)


# The generator fails on a missing title or score. No reply into another conversation is drawn, because ConvoKit moves
# it into its parent's conversation on loading.
sound_corpora = trees.corpora(faults=("missing_parent", "loop"), titled=True)


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(corpus=sound_corpora, seed=st.integers(0, 3))
def test_released_is_what_the_published_generator_makes_of_generated_trees(corpus: trees.Corpus, seed: int) -> None:
    with TemporaryDirectory() as temporary:
        directory = corpus.write(Path(temporary) / "corpus")
        assert_released_is_published(directory, Path(temporary) / "ranked", seed)


@pytest.mark.slow
def test_released_is_what_the_published_generator_makes_of_whole_corpora(directory: Path, tmp_path: Path) -> None:
    assert_released_is_published(directory, tmp_path / "ranked", seed=0)


# --- The same bytes -----------------------------------------------------------------------------------


def digests(
    directory: Path, ranked: Path, engine: Engine | None = None, released: bool = False, shards: int = 1
) -> Iterator[str]:
    ranking, walk = (RELEASED_RANKING, RELEASED) if released else (RankingSettings(), WalkSettings())
    run_to_ranking(directory, ranked, ranking, engine=engine, shards=shards)
    for kind in KINDS:
        for path in dataset_files(make_dataset(kind, ranked, walk, engine)):
            yield hashlib.sha256(path.read_bytes()).hexdigest()


def shuffle(directory: Path, into: Path, seed: int) -> Path:
    """Write the same corpus with its utterances in another order."""
    into.mkdir()
    for path in directory.iterdir():
        lines = path.read_text("utf-8").splitlines(keepends=True)
        if path.name == "utterances.jsonl":
            random.Random(seed).shuffle(lines)
        (into / path.name).write_text("".join(lines), "utf-8")
    return into


# DuckDB assigns work to threads in units of 122,880 rows, so that a smaller corpus would use one thread.
@pytest.fixture(scope="module")
def large_sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large-sample")
    write_sample(folder, conversations=7_000, seed=2)
    return folder


@pytest.fixture(scope="module")
def large_digests(large_sample: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the digests of the datasets of the large sample, made with one thread and one shard."""
    one = list(digests(large_sample, tmp_path_factory.mktemp("one"), Engine(threads=1)))
    assert len(set(one)) == 9
    return one


@pytest.mark.slow
def test_threads_and_the_order_of_the_rows_do_not_change_a_byte(
    large_sample: Path, large_digests: list[str], tmp_path: Path
) -> None:
    shuffled = shuffle(large_sample, tmp_path / "shuffled", seed=3)
    assert list(digests(shuffled, tmp_path / "two", Engine(threads=2))) == large_digests


@pytest.mark.slow
def test_released_has_the_same_bytes_for_one_and_two_threads(large_sample: Path, tmp_path: Path) -> None:
    one = list(digests(large_sample, tmp_path / "one", Engine(threads=1), released=True))
    assert list(digests(large_sample, tmp_path / "two", Engine(threads=2), released=True)) == one


@pytest.mark.slow
@pytest.mark.parametrize("shards", [2, 7])
def test_the_number_of_shards_does_not_change_a_byte(
    large_sample: Path, large_digests: list[str], tmp_path: Path, shards: int
) -> None:
    assert list(digests(large_sample, tmp_path / "sharded", shards=shards)) == large_digests


@pytest.mark.slow
def test_a_second_run_makes_the_same_bytes(sample: Path, tmp_path: Path) -> None:
    first = list(digests(sample, tmp_path / "first"))
    assert list(digests(sample, tmp_path / "second")) == first
