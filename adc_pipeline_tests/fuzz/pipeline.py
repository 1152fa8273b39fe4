"""Run the data path on one hostile corpus: it ends with a sentence, or with datasets whose invariants hold."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from adc_pipeline.core.engine import Engine
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.opening.recorded_files import FILES, record_files
from adc_pipeline.corpus.settings import CorpusSettings
from adc_pipeline.corpus.source import check_source, fetch
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.preferences.datasets import write_preferences
from adc_pipeline.ranking.ranked_replies import write_ranked_replies
from adc_pipeline.walks.datasets import write_walks
from adc_pipeline.walks.files import split_file
from adc_pipeline.walks.grammar import conversations_in_two_splits, grammar_violations
from adc_pipeline.walks.markers import FORMATS, FormatName
from adc_pipeline.walks.splits import SPLITS
from adc_pipeline_tests.fuzz.inputs import Input, StageSettings

ENGINE = Engine(threads=1, memory_limit="1GB")


def outcome(given: Input, folder: Path, format: FormatName = "default") -> str:
    """Write a corpus into a folder and build it there.

    Return the sentence with which the corpus is refused, or "built", after checking what was built.

    Any other exception, and an AssertionError, is a finding.
    """
    try:
        corpus = given.write(folder / "given")
        settings = CorpusSettings(corpus=corpus, format=given.format, columns=given.columns)  # type: ignore[arg-type]
        build(settings, replace(given.stages, walks=replace(given.stages.walks, format=format)), folder / "out")
    except PipelineError as error:
        sentence = str(error)
        assert sentence, "the sentence is empty"
        assert sentence.isprintable(), f"the sentence holds control characters: {sentence!r}"
        return sentence
    return "built"


def build(settings: CorpusSettings, stages: StageSettings, out: Path) -> None:
    raw = out / "raw" / "corpus"
    raw.parent.mkdir(parents=True)
    check_source(settings)
    fetch(settings, {}, raw)
    record_files(raw, raw.with_name(FILES))
    counts = write_utterances(raw, out / "utterances", stages.utterances, ENGINE, settings)
    reasons = sum(number for name, number in counts.items() if name.startswith("set_aside."))
    assert counts["records"] == counts["read"], counts
    assert counts["read"] == counts["taking_part"] + counts["set_aside"], counts
    assert counts["set_aside"] == reasons, counts
    ranked = write_ranked_replies(out / "utterances", out / "ranked", stages.ranking, ENGINE)
    assert ranked["replies"] == ranked["ranked"] + ranked["dropped"], ranked
    write_preferences(out / "utterances", out / "ranked", out / "preferences", stages.preferences, ENGINE)
    for path in (out / "preferences" / "pairs").glob("*.parquet"):
        pairs = pq.ParquetFile(path).read(["score_gap", "chosen_id", "rejected_id"]).to_pylist()
        assert all(pair["score_gap"] >= stages.preferences.min_score_gap for pair in pairs)
        assert all(pair["chosen_id"] != pair["rejected_id"] for pair in pairs)
    for kind in stages.kinds:
        folder = out / kind
        walks = write_walks(kind, out / "utterances", out / "ranked", folder, stages.walks, ENGINE)
        assert grammar_violations(folder, stages.walks.format, ENGINE) == 0
        assert conversations_in_two_splits(folder, ENGINE) == 0
        check_turns(folder, stages.walks.format, kind, walks["turns"])


def check_turns(folder: Path, format: FormatName, kind: str, expected: float) -> None:
    """Check each turn of a dataset: no forged marker in its text, and in top-2 the best sibling is the accepted one."""
    rows = [row for split in SPLITS for row in pq.ParquetFile(folder / split_file(split)).read().to_pylist()]
    assert sum(len(row["turns"]) for row in rows) == expected
    seen = Counter(turn["utterance_id"] for row in rows for turn in row["turns"])
    assert all(row["turns"] for row in rows)
    assert seen.total() == expected
    for turn, text in ((turn, row["text"]) for row in rows for turn in row["turns"]):
        said = text[turn["start"] : turn["end"]]
        if format == "default":
            assert not any(marker in said for marker in FORMATS[format].strings()), said
        assert 1 <= turn["rank"] <= turn["siblings"], turn
        assert kind != "top-2" or (turn["verdict"] == "accepted") == (turn["rank"] == 1), turn
