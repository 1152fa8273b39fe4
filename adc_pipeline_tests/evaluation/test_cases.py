"""Cases as DuckDB finds them equal those of a slow, obvious search, on generated trees and on the sample."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.sample.threads import write_sample
from adc_pipeline.corpus.settings import CorpusSettings, UtteranceSettings
from adc_pipeline.corpus.source import fetch
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.evaluation.cases.case_sets import BEFORE, QUERY_FIELDS, Contrasts, distinct
from adc_pipeline.evaluation.cases.cases import Cases, read_cases
from adc_pipeline.evaluation.scoring.likelihoods import Query
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.ranking.ranked_replies import write_ranked_replies
from adc_pipeline.walks.datasets import write_walks
from adc_pipeline.walks.markers import Verdict
from adc_pipeline.walks.settings import WalkSettings
from adc_pipeline.walks.splits import split_of
from adc_pipeline_tests import trees
from adc_pipeline_tests.evaluation.conftest import Stages, run_stages
from adc_pipeline_tests.stages import read, read_records, utterance_records

VERDICTS: tuple[Verdict, Verdict] = ("rejected", "accepted")
CAPS = EvaluationSettings(max_siblings=3, max_groups=2, max_steering=2, max_contrasts=5)


def md5(text: str) -> tuple[str, str]:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest(), text


def neutral(text: str) -> str:
    for marker in ("<background>", "<rejected>", "<accepted>"):
        text = text.replace(marker, f"‹{marker[1:-1]}›")
    return text


@dataclass
class Search:
    """Every case of the test conversations, found by looking at everything."""

    pairs: set[Any]
    steerings: set[Any]
    turns: list[Any]
    improvements: list[Any]
    contrasts: set[Any]


def search(stages: Stages, caps: EvaluationSettings) -> Search:
    utterances = {row["id"]: row for row in utterance_records(stages.utterances)}
    walks = pq.read_table(stages.dataset / "data/test-00000-of-00001.parquet").to_pylist()
    chosen = sorted({walk["conversation_id"] for walk in walks}, key=md5)[: caps.max_conversations]
    ranked = [
        {**utterances[row["id"]], **row}
        for row in read_records(stages.ranked, "ranked_replies.parquet")
        if row["conversation_id"] in chosen
    ]
    replies = {row["id"]: row for row in ranked}

    def segment(row: Any) -> str:
        return neutral(row["speaker"]) + "\n" + neutral(row["text"])

    def background(conversation: str) -> str:
        root = next(u for u in utterances.values() if u["conversation_id"] == conversation and u["is_root"])
        return "\n".join(neutral(part) for part in (root["speaker"], root["title"] or "", root["text"]))

    def above(row: Any) -> tuple[tuple[str, Verdict], ...]:
        parent = replies.get(row["reply_to"])
        return () if parent is None else (*above(parent), (segment(parent), "accepted"))

    def children(id: str) -> list[Any]:
        return sorted((row for row in ranked if row["reply_to"] == id), key=lambda row: row["rank"])

    def stranger(text: str, conversation: str) -> str | None:
        """Another conversation's reply of the nearest length: of two, the shorter, then the earlier."""
        size = len(text.encode())
        others = [row for row in ranked if row["conversation_id"] != conversation and segment(row) != text]

        def distance(row: Any) -> tuple[int, int, int]:
            apart = len(segment(row).encode()) - size
            # From the shorter ones the last is met first, from the others the first.
            return abs(apart), apart >= 0, -row["position"] if apart < 0 else row["position"]

        return segment(min(others, key=distance)) if others else None

    found = Search(set(), set(), [], [], set())
    spread: list[Any] = []
    pairs: list[Any] = []
    timed: list[Any] = []
    for conversation in chosen:
        start = background(conversation)
        inside = [row for row in ranked if row["conversation_id"] == conversation]
        groups = sorted({row["reply_to"] for row in inside if len(children(row["reply_to"])) > 1}, key=md5)
        for parent in groups[: caps.max_groups]:
            best = children(parent)[: caps.max_siblings]
            compared = [(a, b) for a in best for b in best if a["score"] > b["score"]]
            siblings = tuple({row["id"]: segment(row) for both in compared for row in both}.values())
            for a, b in compared:
                timed.append((a, b))
                pairs.append(
                    (
                        f"{a['id']}>{b['id']}",
                        Query(start, above(a), segment(a), siblings),
                        Query(start, above(b), segment(b), siblings),
                        len(neutral(a["text"]).encode()),
                        len(neutral(b["text"]).encode()),
                        a["score"] - b["score"],
                        abs(a["timestamp"] - b["timestamp"]) <= 3600,
                        a["timestamp"] > b["timestamp"] and a["score"] >= 2 * b["score"] and b["score"] >= 2,
                        is_of_dialogrpt(a, b, children(parent)),
                        a["timestamp"],
                        b["timestamp"],
                    )
                )
        levels = {id: sorted({row["score"] for row in children(id)}) for id in groups}
        for place, parent in enumerate(id for id in groups if len(levels[id]) > 2):
            group = children(parent)
            between = [row for row in group if levels[parent][0] < row["score"] < levels[parent][-1]]
            shown = min(between, key=lambda row: md5(row["id"]))
            spread.append((place, chosen.index(conversation), start, shown, group[0], group[-1]))
        steerable = [row for row in inside if len(children(row["reply_to"])) > 1 and children(row["id"])]
        for x in sorted(steerable, key=lambda row: md5(row["id"]))[: caps.max_steering]:
            sibling = next(row for row in children(x["reply_to"]) if row["id"] != x["id"])
            queries = [
                Query(start, (*above(x), (segment(x), verdict)), segment(next_turn))
                for next_turn in (sibling, children(x["id"])[0])
                for verdict in VERDICTS
            ]
            sizes = [len(neutral(row["text"]).encode()) for row in (sibling, children(x["id"])[0])]
            found.steerings.add((x["id"], *queries, *sizes))

    for _, number, start, shown, best, worst in sorted(spread, key=lambda each: each[:2])[: caps.max_contrasts]:
        other = stranger(segment(shown), chosen[number])
        if other is not None:
            histories: list[tuple[tuple[str, Verdict], ...]]
            histories = [(), ((segment(shown), "rejected"),), ((other, "rejected"),)]
            queries = [
                Query(start, (*above(shown), *history), segment(row)) for history in histories for row in (best, worst)
            ]
            sizes = [len(segment(row).encode()) for row in (best, worst)]
            found.contrasts.add((f"{shown['id']}:{best['id']}>{worst['id']}", *queries, *sizes))

    matched = matched_on_time(timed)
    found.pairs.update((*row, key in matched) for row, key in zip(pairs, range(len(pairs)), strict=True))

    # Texts are neutralised, so that cutting at the marker strings gives the parts back.
    for walk in sorted(walks, key=lambda walk: walk["conversation_id"]):
        if walk["conversation_id"] not in chosen:
            continue
        start, rest = walk["text"].split("<background>")
        parts = re.findall(r"(.*?)<(accepted|rejected)>", rest, re.DOTALL)
        for place, ((text, verdict), turn) in enumerate(zip(parts, walk["turns"], strict=True)):
            before = tuple(parts[:place])
            case = f"{walk['walk']}/{turn['utterance_id']}"
            query = Query(start, before, text)
            verdict_before = BEFORE[parts[place - 1][1]] if place else 0
            found.turns.append((case, query, len(text.encode()), verdict == "accepted", verdict_before))
            k = 0
            while k < place and parts[place - 1 - k][1] == "rejected":
                k += 1
            if verdict == "accepted" and k:
                kept, history = before[: place - k], before[place - k :]
                others = [stranger(each, walk["conversation_id"]) for each, _ in history]
                strange: Any = None if None in others else (*kept, *((each, "rejected") for each in others))
                for shown in sorted({*range(1, min(k, 4)), k}):
                    turns = [(*kept, *history[:shown]), kept, before, strange]
                    asked = [None if each is None else Query(start, each, text) for each in turns]
                    name = case if shown == k else f"{case}/{shown}"
                    found.improvements.append((name, *asked, len(text.encode()), k, shown))
    return found


def matched_on_time(timed: list[Any]) -> set[int]:
    """The places of the pairs within an hour of which, equally far apart, as many better ones are earlier as later."""
    bins: dict[int, dict[bool, list[int]]] = {}
    kept = set()
    for place, (a, b) in enumerate(timed):
        apart = abs(a["timestamp"] - b["timestamp"])
        if apart == 0:
            kept.add(place)
        elif apart <= 3600:
            later = a["timestamp"] > b["timestamp"]
            bins.setdefault(apart.bit_length(), {True: [], False: []})[later].append(place)
    for both in bins.values():
        for places in both.values():
            order = sorted(places, key=lambda place: md5(f"{timed[place][0]['id']}>{timed[place][1]['id']}")[0])
            kept |= set(order[: min(map(len, both.values()))])
    return kept


def is_of_dialogrpt(a: Any, b: Any, group: list[Any]) -> bool:
    order = sorted(group, key=lambda row: (row["timestamp"], row["score"], row["id"]))
    scores = sorted({row["score"] for row in group})
    apart = (scores.index(a["score"]) - scores.index(b["score"])) / (len(scores) - 1)
    neighbours = abs(order.index(a) - order.index(b)) == 1
    return (
        abs(a["timestamp"] - b["timestamp"]) <= 3600 and neighbours and a["score"] - b["score"] >= 20 and apart >= 0.5
    )


def resolved(cases: Cases) -> Search:
    """The same as text, from the numbers in the case sets."""

    def rows(case_set: Any, queries: tuple[str, ...], others: tuple[str, ...]) -> list[Any]:
        columns: list[list[Any]] = [[str(case) for case in case_set.case]]
        columns += [
            [cases.queries[number] if number >= 0 else None for number in getattr(case_set, name)] for name in queries
        ]
        columns += [getattr(case_set, name).tolist() for name in others]
        return list(zip(*columns, strict=True))

    figures: tuple[str, ...] = ("better_bytes", "worse_bytes", "gap", "within_hour", "later_doubled", "dialogrpt")
    figures += ("better_time", "worse_time", "time_matched")
    pairs = rows(cases.pairs, ("better", "worse"), figures)
    names = ("sibling_if_rejected", "sibling_if_accepted", "reply_if_rejected", "reply_if_accepted")
    steerings = rows(cases.steerings, names, ("sibling_bytes", "reply_bytes"))
    turns = rows(cases.turns, ("turn",), ("bytes", "accepted", "before"))
    improvements = rows(cases.improvements, ("left_in", "taken_out", "every", "strange"), ("bytes", "k", "shown"))
    contrasts = rows(cases.contrasts, QUERY_FIELDS[Contrasts], ("better_bytes", "worse_bytes"))
    assert len(pairs) == len(set(pairs))
    assert len(steerings) == len(set(steerings))
    return Search(set(pairs), set(steerings), turns, improvements, set(contrasts))


def assert_equal(stages: Stages, spill: Path, caps: EvaluationSettings) -> Search:
    cases = read_cases(stages.dataset, stages.utterances, stages.ranked, "default", "names", caps, spill)
    found, expected = resolved(cases), search(stages, caps)
    assert found.pairs == expected.pairs
    assert found.steerings == expected.steerings
    assert sorted(found.turns) == sorted(expected.turns)
    assert sorted(found.improvements, key=str) == sorted(expected.improvements, key=str)
    assert found.contrasts == expected.contrasts
    assert len(cases.queries) == len(set(cases.queries))
    asked = {cases.queries[number] for number in cases.ask_text.nonzero()[0]}
    texts = {query for row in expected.turns + expected.improvements for query in row if isinstance(query, Query)}
    others = (*expected.steerings, *expected.contrasts)
    assert asked == texts | {query for row in others for query in row if isinstance(query, Query)}
    return expected


@pytest.mark.slow
@given(trees.corpora(faults=()))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_cases_of_generated_trees_equal_the_search(corpus: trees.Corpus) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        stages = Stages(folder / "utterances", folder / "ranked", folder / "dataset")
        for path in (stages.utterances, stages.ranked, stages.dataset):
            path.mkdir()
        write_utterances(corpus.write(folder / "corpus"), stages.utterances, UtteranceSettings(max_set_aside=1))
        write_ranked_replies(stages.utterances, stages.ranked)
        walk = WalkSettings(shares=(0, 0, 100), walks_per_conversation=2)
        write_walks("random-walk", stages.utterances, stages.ranked, stages.dataset, walk)
        assert_equal(stages, folder / "spill", CAPS)


@pytest.mark.fast_first
@pytest.mark.parametrize("caps", [EvaluationSettings(), EvaluationSettings(max_conversations=7)])
def test_cases_of_the_sample_corpus_equal_the_search(stages: Stages, tmp_path: Path, caps: EvaluationSettings) -> None:
    found = assert_equal(stages, tmp_path / "spill", caps)
    assert min(map(len, vars(found).values())) > 3


@pytest.mark.slow
def test_only_test_conversations_are_read(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    write_sample(tmp_path / "corpus", conversations=40)
    shares = (40, 10, 50)
    stages = run_stages(tmp_path / "corpus", tmp_path, kind="top-2", shares=shares)
    cases = read_cases(stages.dataset, stages.utterances, stages.ranked, "default", "names", CAPS, tmp_path / "spill")
    ids = [id for (id,) in read(stages.ranked, "ranked_replies.parquet", "conversation_id")]
    test = {id for id in ids if split_of(id, shares) == "test"}
    # Two roots of the sample's few are also in the training split.
    assert set(cases.conversations) == test - {"t00014", "t00028"}
    assert (cases.test_conversations, cases.leakage.left_out) == (len(test), 2)
    assert 5 < len(cases.conversations) < len(set(ids))
    held_out = read_cases(
        stages.dataset, stages.utterances, stages.ranked, "default", "names", CAPS, tmp_path / "spill",
        split="validation", families=["steering"],
    )  # fmt: skip
    assert held_out.conversations
    assert {split_of(id, shares) for id in held_out.conversations} == {"validation"}
    assert len(held_out.steerings.case) > 0
    assert not [*held_out.pairs.case, *held_out.turns.case, *held_out.improvements.case, *held_out.contrasts.case]
    assert {*np.flatnonzero(held_out.ask_text)} == {*range(len(held_out.queries))}


def test_another_spelling_than_the_datasets_is_refused(stages: Stages, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="speakers none"):
        read_cases(stages.dataset, stages.utterances, stages.ranked, "default", "none", CAPS, tmp_path / "spill")


def write_site(path: Path, name: str, silent: int) -> Path:
    """A table of five threads whose ids begin at 1, as on every site; the post `silent` has no replies."""
    rows = [["id", "conversation_id", "reply_to", "speaker", "text", "score", "title"]]
    for root in range(1, 31, 7):
        rows.append([str(root), str(root), "", "ann", f"{name} {root}", "1", f"post of {name}"])
        if root == silent:
            continue
        for id, parent in enumerate((root, root, root, root + 1, root + 1, root + 2), root + 1):
            rows.append([str(id), str(root), str(parent), "bob", f"{name} {id}", str(id * 7 % 5), ""])
    path.write_text("\n".join(map(",".join, rows)) + "\n")
    return path


def named(cases: Cases) -> dict[str, set[Any]]:
    """The cases by their texts, which name the site that they come from; without strangers, who come from any site."""
    found = resolved(cases)
    rows: dict[str, list[Any]] = {name: [row[1:] for row in getattr(found, name)] for name in vars(found)}
    rows["improvements"] = [(*row[:3], *row[4:]) for row in rows["improvements"]]
    rows["contrasts"] = [(*row[:4], *row[-2:]) for row in rows["contrasts"]]
    return {name: {*each} for name, each in rows.items()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["top-2", "random-walk", "ascending"])
def test_the_cases_of_two_sites_are_those_of_each_alone(tmp_path: Path, kind: str) -> None:
    sites = [write_site(tmp_path / f"{name}.csv", name, silent) for name, silent in (("garden", 8), ("harbour", 15))]

    def cases_of(name: str, sources: Sequence[Path]) -> Cases:
        source = CorpusSettings(corpus=",".join(map(str, sources)))
        (tmp_path / name).mkdir()
        fetch(source, {}, tmp_path / name / "corpus")
        stages = run_stages(tmp_path / name / "corpus", tmp_path / name, kind)
        caps = replace(CAPS, max_contrasts=100)
        return read_cases(
            stages.dataset, stages.utterances, stages.ranked, "default", "names", caps, tmp_path / "spill"
        )

    apart = [cases_of(site.stem, [site]) for site in sites]
    both = cases_of("both", sites)
    assert named(both) == {name: named(apart[0])[name] | named(apart[1])[name] for name in named(both)}
    assert len(set(both.conversations)) == both.test_conversations == sum(cases.test_conversations for cases in apart)
    assert set(both.conversations) == {"1:1", "2:1", "8", "15", "1:22", "2:22", "1:29", "2:29"}
    garden, harbour = (set(cases.sources) for cases in apart)
    assert len(garden | harbour) == 2
    sources = dict(zip(both.conversations, both.sources, strict=True))
    assert {sources[name] for name in ("1:1", "15", "1:22", "1:29")} == garden
    assert {sources[name] for name in ("2:1", "8", "2:22", "2:29")} == harbour
    assert min(map(len, named(both).values())) > 3


def test_an_answer_and_a_comment_of_one_id_are_two_cases() -> None:
    assert distinct([0, 0, 1, 0], ["5", "5", "5", "6"]) == ("5", "5#2", "5", "6")
