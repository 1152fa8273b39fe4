"""Where a corpus and ADC_HOME lie does not change a result: a folder such as `score=3` is no partition."""

from pathlib import Path

import pytest

from adc_pipeline.walks.files import split_file
from adc_pipeline.walks.splits import SPLITS
from adc_pipeline_tests.fuzz.containers import delimited, parquet
from adc_pipeline_tests.fuzz.inputs import Input, convokit, utterances
from adc_pipeline_tests.fuzz.pipeline import outcome

DATASETS = [f"top-2/{split_file(split)}" for split in SPLITS]
FILES = {
    "c.parquet": parquet(utterances()),
    "d.csv": delimited(utterances(), ","),
    **{f"e/{name}": content for name, content in convokit(utterances()).items()},
}


@pytest.mark.slow
def test_folders_that_look_like_partitions(tmp_path: Path) -> None:
    built = []
    for folder in (tmp_path / "plain", tmp_path / "score=3" / "text=a" / "id=7"):
        assert outcome(Input("all", FILES, ""), folder) == "built"
        built.append([(folder / "out" / name).read_bytes() for name in DATASETS])
    assert built[0] == built[1]
