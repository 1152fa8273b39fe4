"""A fourth kind of walk is one declaration: everything else follows from it (docs/architecture.md, "Add a dataset")."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

import adc_pipeline
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.walks.files import split_file
from adc_pipeline.walks.kinds import KINDS

# Only the best reply is ever shown, so a walk is the path of the first ranks.
DECLARATION = '''
BEST = WalkKind(
    name="best-only",
    description="Walks along the best replies.",
    summary="At each step of a walk the best reply is accepted.",
    choices="""
        SELECT walk, parent_position AS parent, position AS next, 1 AS accepted
        FROM ranked CROSS JOIN range($walks) AS drawn (walk) WHERE rank = 1
    """,
    shown="WHERE r.rank = 1",
    order="r.rank",
    flipped="id",
    threshold="8",
    promoted_by="preference_accuracy",
    reading="It holds no rejected turn.",
)
'''

PROGRAM = """
import json, sys
import dagster as dg
from adc_pipeline.definitions import defs

config = {"ops": {"raw_corpus": {"config": {"corpus": "sample", "sample_conversations": 60}}}}
assert defs.resolve_job_def("datasets").execute_in_process(config).success
loaded = sorted({"torch", "transformers"} & set(sys.modules))
graph = defs.resolve_asset_graph()
upstream = {key.to_user_string(): sorted(each.to_user_string() for each in graph.get(key).parent_keys)
            for key in graph.get_all_asset_keys()}
checks = sorted(f"{key.asset_key.to_user_string()} {key.name}" for key in graph.asset_check_keys)
from adc_pipeline.study.grid import VARIANTS
facts = {"loaded": loaded, "upstream": upstream, "checks": checks, "variants": list(VARIANTS)}
json.dump(facts, open(sys.argv[1], "w"))
"""


@pytest.mark.slow
def test_a_kind_is_declared_in_one_file_and_is_everywhere(tmp_path: Path) -> None:
    package = shutil.copytree(
        Path(adc_pipeline.__file__).parent, tmp_path / "adc_pipeline", ignore=shutil.ignore_patterns("__pycache__")
    )
    kinds = package / "walks" / "kinds.py"
    text = kinds.read_text()
    declared, listed, _ = text.partition("KINDS: Mapping")
    last = list(KINDS)[-1].upper().replace("-", "_")
    assert f"{last})}}" in _
    kinds.write_text(declared + DECLARATION + "\n" + listed + _.replace(f"{last})}}", f"{last}, BEST)}}"))

    facts = tmp_path / "facts.json"
    home = tmp_path / "home"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "ADC_HOME": str(home)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    subprocess.run([sys.executable, "-c", PROGRAM, str(facts)], check=True, env=environment, cwd=tmp_path)

    found = json.loads(facts.read_text())
    assert found["loaded"] == [], "the job datasets imports torch, which it does not need"
    upstream = found["upstream"]
    assert upstream["best_only"] == ["ranked_replies", "utterances"]
    assert upstream["best_only_model"] == ["base_model", "best_only"]
    assert {"best_only_model", "best_only"} < set(upstream["best_only_evaluation"])
    assert "best_only_evaluation" in upstream["comparison"]
    assert upstream["best_only_champion"] == ["best_only_evaluation", "best_only_model"]
    assert "best_only" in upstream["study_cell"]
    assert {"best_only marker_grammar", "best_only splits_apart", "best_only_evaluation learned_something"} <= {
        *found["checks"]
    }
    assert "best-only.mle" in found["variants"]

    made = Store(home).current("best_only")
    assert (home / "datasets" / "best-only").resolve() == made.path
    assert made.counts["turns.rejected"] == 0 < made.counts["turns.accepted"]
    assert "# best-only walks" in (made.path / "README.md").read_text()
    with duckdb.connect(str(home / "adc.duckdb"), read_only=True) as connection:
        assert len(connection.table("best_only")) == made.counts["walks"]
    texts = [duckdb.read_parquet(str(made.path / split_file(split))) for split in ("train", "validation", "test")]
    assert sum(len(table) for table in texts) == made.counts["walks"]
