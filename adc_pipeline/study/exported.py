"""Small results of cells in a folder: what the contrasts of a plan need, case by case, and no text.

The folder can be committed, so that a study goes on elsewhere, and whoever reads it can compute its result. A cell is
two files, `VARIANT.seed-SEED.parquet` with the cases of the plan's measures, and `VARIANT.seed-SEED.json` with
settings, input digests, what the training saw, what of the test split was evaluated, and the digest of the first file.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adc_pipeline.core.atomic import atomic_file
from adc_pipeline.core.engine import connected
from adc_pipeline.core.errors import PipelineError, first_line
from adc_pipeline.core.markdown import escape
from adc_pipeline.core.named_files import file_problem
from adc_pipeline.core.records import checked_fields, read_record
from adc_pipeline.core.store.content import file_digest
from adc_pipeline.core.store.manifests import Artefact, differing
from adc_pipeline.evaluation.case_table import CASE_TABLE
from adc_pipeline.evaluation.intervals.estimate import Estimate
from adc_pipeline.study.grid import cell_label
from adc_pipeline.study.plan import Plan
from adc_pipeline.study.settings import CellSettings
from adc_pipeline.study.statistics import NUMBERS, TEXTS
from adc_pipeline.training.texts.facts import FACTS
from adc_pipeline.walks.kinds import KINDS

# Inputs whose rows the datasets follow from. Their files may differ where the datasets are equal: a newer version of
# the package adds a column, or orders rows otherwise.
OF_SAME_ROWS = ("utterances", "ranked_replies")
# Settings that change neither the model nor its figures.
OF_THE_MACHINE = ("accelerate_config", "checkpoint_every", "keep_checkpoints", "log_every", "tokens_per_forward")
# The first parts of the names of counts that say what of the test split an evaluation rests on, and those always there.
COUNTED = ("conversations", "queries", "steering", "in_context_improvement", "rejection_contrast")
COUNTS: Mapping[str, type] = {
    **{f"conversations.{name}": int for name in ("test", "evaluated", "root_in_training", "left_out")},
    **dict.fromkeys(("queries", "queries.cut", "queries.left_out"), int),
}


@dataclass(frozen=True)
class ExportedCell:
    """A cell in a folder of exported cells: its cases and its facts."""

    cases: Path
    facts: Mapping[str, Any]

    def lacks(self, measure: str) -> bool:
        """Return whether the cell was exported for a plan without this measure; earlier versions did not record it."""
        return bool(self.facts["measures"]) and measure not in self.facts["measures"]


def export_cell(cell: Artefact, variant: str, seed: str, measures: Sequence[str], folder: Path) -> None:
    """Write the small result of a cell into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    evaluation = cell.path / "evaluation"
    trained = read_record(evaluation / FACTS)
    judged = read_record(evaluation / "evaluation.json")
    facts = {
        "settings": cell.settings,
        "inputs": cell.inputs,
        "code_version": cell.code_version,
        "versions": trained["versions"],
        "steps": trained["steps"],
        "tokens": trained["tokens"],
        "train": {name: trained["train"][name] for name in ("walks", "tokens", "turns", "turns_rejected")},
        "measures": sorted(measures),
        "excluded": judged["left_out"],
        "counts": {name: value for name, value in judged["counts"].items() if name.split(".")[0] in COUNTED},
        "shortcomings": judged["shortcomings"],
        "judge": judged.get("judge", {}),
        "judge_name": judged.get("judge_name", ""),
    }
    name = cell_label(variant, seed)
    with connected() as connection, atomic_file(folder / f"{name}.parquet") as partial:
        connection.execute(
            "CREATE TABLE kept AS SELECT * FROM read_parquet($1, hive_partitioning = false)"
            ' WHERE list_contains($2, measure) ORDER BY measure, conversation_id, "case"',
            [str(evaluation / CASE_TABLE), list(measures)],
        )
        connection.table("kept").write_parquet(str(partial), compression="zstd")
        facts["cases_sha256"] = file_digest(partial)
    with atomic_file(folder / f"{name}.json") as partial:
        partial.write_text(json.dumps(facts, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def read_exported(
    plan: Plan, common: CellSettings, folder: Path
) -> tuple[dict[tuple[str, int], ExportedCell], dict[str, str]]:
    """Read the plan's cells that a folder has, by (variant, seed), and the reason why each other one is excluded.

    All cells have to have the settings of the plan, and the datasets, base model and judge that most of them have.
    """
    found: dict[tuple[str, int], ExportedCell] = {}
    excluded = {}
    for variant, seed in plan.cells:
        name = cell_label(variant, seed)
        cases, facts = folder / f"{name}.parquet", folder / f"{name}.json"
        if not cases.exists() or not facts.exists():
            continue
        read = read_facts(facts)
        check_cases(cases, read.get("cases_sha256"))
        # A setting that the package did not have yet had no effect, as its default has none.
        made = {**asdict(CellSettings()), **read["settings"]}
        planned = asdict(plan.settings(variant, int(seed), common))
        if changed := [each for each in differing(planned, made) if each not in OF_THE_MACHINE]:
            excluded[name] = f"it was made with other settings than the plan's ({', '.join(map(escape, changed))})"
        else:
            inputs = {name: digest for name, digest in read["inputs"].items() if name not in OF_SAME_ROWS}
            found[variant, int(seed)] = ExportedCell(cases, {**read, "digests": json.dumps(inputs, sort_keys=True)})
    usual = Counter(cell.facts["digests"] for cell in found.values()).most_common(1)
    for key, cell in list(found.items()):
        if cell.facts["digests"] != usual[0][0]:
            excluded[cell_label(*key)] = "it was made from other datasets than most cells"
            del found[key]
    return found, excluded


def check_same_data(
    cells: Mapping[tuple[str, int], ExportedCell], inputs: Mapping[str, str], folder: Path, datasets_only: bool
) -> None:
    """Raise PipelineError if the cells of a folder were made from other data than a run would make cells from.

    `inputs` are the digests of the run's. New cells could not be compared with those of the folder, and the result of
    the folder's would not be that of the run's corpus. With `datasets_only` no cell is to be made, and base model and
    judge may differ.
    """
    if not cells:
        return
    theirs = next(iter(cells.values())).facts["inputs"]
    compared = {kind.dataset for kind in KINDS.values()} if datasets_only else {*inputs} - {*OF_SAME_ROWS}
    if others := [name for name in inputs if name in compared and theirs.get(name) not in (None, inputs[name])]:
        raise PipelineError(
            f"The cells in {folder} were made from other data ({', '.join(others)}) than those of this run: name"
            " another folder with `--cells`, or give the corpus and the settings that they were made with."
        )


ESTIMATE = dict.fromkeys(("value", "low", "high"), float | None) | dict.fromkeys(("cases", "conversations"), int)
REMOVE = "remove it with the cell's other file, and the cell is exported or made again"


def read_facts(path: Path) -> dict[str, Any]:
    """Return the facts of an exported cell; raise PipelineError if the file is not what `export_cell` writes.

    Such a file may come from elsewhere, and goes into a page.
    """
    facts = read_record(path, remedy=REMOVE, settings=dict, inputs=dict, steps=int, tokens=int, train=dict)
    try:
        checked_fields(facts["train"], {"turns_rejected": int})
        # Earlier versions wrote none of them.
        facts = {"measures": [], "counts": {}, "shortcomings": []} | facts
        checked_fields(facts, {"measures": list[str], "counts": dict[str, int], "shortcomings": list[str]})
        checked_fields(facts["counts"], COUNTS if facts["counts"] else {})
        for accuracy in checked_fields(facts.setdefault("judge", {}), {}).values():
            Estimate(**checked_fields(accuracy, ESTIMATE))
    except (TypeError, ValueError) as error:
        raise PipelineError(
            f"{path} is damaged, or another program wrote it ({first_line(error)}): {REMOVE}."
        ) from error
    return facts


def check_cases(path: Path, digest: str | None) -> None:
    """Raise PipelineError unless a file has the cases of a cell; `digest` is the file's own, where it was recorded.

    Only the columns that the statistics read are asked for: a case table gets further ones with newer versions.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if problem := file_problem(path):
        raise PipelineError(f"{path} {problem}.")
    if digest is not None and file_digest(path) != digest:
        raise PipelineError(f"{path} was altered after the cell was exported: {REMOVE}.")
    try:
        schema = pa.schema(dict.fromkeys(TEXTS, pa.string()) | dict.fromkeys(NUMBERS, pa.float64()))
        table = pq.read_table(path, partitioning=None).select(schema.names).cast(schema)
        values = [pc.is_finite(table[name]) for name in ("weight", "model")]
        sound = all(pc.all(each, min_count=0).as_py() for each in values)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise PipelineError(f"{path} holds no cases of a cell ({first_line(error)}): {REMOVE}.") from error
    if not sound:
        raise PipelineError(f"{path} has cases whose values are not finite: {REMOVE}.")
