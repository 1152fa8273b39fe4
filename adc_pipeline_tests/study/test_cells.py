"""Which artefacts a cell may be made of, and which cells may stand side by side. No model is trained."""

import itertools
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import combined_digest
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.study.cells import CODE_VERSION, READS, comparable, inputs_of
from adc_pipeline.study.grid import VARIANTS, cell_name
from adc_pipeline.study.settings import CellSettings
from adc_pipeline.walks.kinds import KINDS
from adc_pipeline.walks.settings import WalkSettings

SHARES = (80, 10, 10)


def put(
    store: Store, name: str, settings: dict[str, Any] | None = None, inputs: dict[str, str] | None = None, **rest: Any
) -> Artefact:
    """An artefact in place that is nothing but its settings and inputs; others, another digest."""
    digest = combined_digest([(name, str((settings, inputs, rest)))])
    with store.aside(name) as folder:
        return store.put(folder, Artefact(name, folder, digest, settings or {}, inputs or {}, **rest))


def put_walks(store: Store, name: str, of: dict[str, str], shares: tuple[int, ...] = SHARES) -> Artefact:
    return put(store, name, {**asdict(WalkSettings()), "shares": list(shares)}, of)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """What the cells start from, in place."""
    store = Store(tmp_path)
    of = {name: put(store, name, {"of": "a corpus"}).digest for name in ("utterances", "ranked_replies")}
    for kind in KINDS.values():
        put_walks(store, kind.dataset, of)
    put(store, "base_model")
    put(store, "judge")
    return store


def test_a_cell_is_made_of_what_is_in_place(store: Store) -> None:
    read = inputs_of(store)
    made = {"base_model", "judge", "utterances", "ranked_replies"}
    assert set(read) == {"top_2", "random_walk", "ascending", *made}
    assert all(artefact == store.current(name) for name, artefact in read.items())


def test_datasets_of_other_splits_are_refused_by_the_settings_name(store: Store) -> None:
    """A conversation that one has in its test split, the other may have in training."""
    put_walks(store, "random_walk", store.current("random_walk").inputs, shares=(90, 5, 5))
    with pytest.raises(PipelineError, match=r"^top_2 has the setting `shares` \[80, 10, 10\] and .*\[90, 5, 5\]"):
        inputs_of(store)


@pytest.mark.parametrize("name", ["utterances", "ranked_replies"])
def test_datasets_of_other_corpora_are_refused_by_the_inputs_name(store: Store, name: str) -> None:
    other = put(store, name, {"of": "another corpus"})
    put_walks(store, "random_walk", store.current("random_walk").inputs | {name: other.digest})
    with pytest.raises(PipelineError, match=f"^top_2 was made from `{name}` .* and random_walk from {other.digest}"):
        inputs_of(store)


NAMES = {cell_name(variant, "0"): (variant, 0) for variant in ("top-2.mle", "top-2.awr", "both.mle")}
FIRST, SECOND, THIRD = NAMES
# Every cell is made later than the one before.
SECONDS = itertools.count()


def put_cells(store: Store, **settings: Any) -> None:
    for name, (variant, seed) in NAMES.items():
        put_cell(store, name, VARIANTS[variant].settings(CellSettings(**settings), seed))


def put_cell(store: Store, name: str, settings: CellSettings, code_version: str = CODE_VERSION) -> None:
    read = inputs_of(store)
    digests = {each: artefact.digest for each, artefact in read.items()}
    upstream = store.settings_read(READS, read)
    made = put(store, name, asdict(settings), digests, code_version=code_version, upstream_settings=upstream)
    os.utime(made.path / "artefact.json", (next(SECONDS),) * 2)


def test_cells_that_differ_in_what_the_grid_varies_stand_side_by_side(store: Store) -> None:
    put_cells(store)
    made, left_out = comparable(store, [*NAMES, cell_name("top-2.rwr", "0")])
    assert (set(made), left_out) == (set(NAMES), {})


def test_a_cell_of_another_dataset_is_left_out_by_name(store: Store) -> None:
    put_cells(store)
    put(store, "random_walk", {**store.current("random_walk").settings, "seed": 1}, store.current("top_2").inputs)
    made, left_out = comparable(store, NAMES)
    # A cell depends on all datasets, also where it learns from one.
    assert (set(made), set(left_out)) == (set(), set(NAMES))
    put_cell(store, THIRD, VARIANTS["both.mle"].settings(CellSettings(), 0))
    made, left_out = comparable(store, NAMES)
    assert (set(made), set(left_out)) == ({THIRD}, {FIRST, SECOND})
    for reason in left_out.values():
        assert reason.startswith("input random_walk has changed from ")
        assert reason.endswith(", setting seed of random_walk has changed from 0 to 1")


def test_a_cell_of_other_code_is_left_out_by_name(store: Store) -> None:
    put_cells(store)
    put_cell(store, THIRD, VARIANTS["both.mle"].settings(CellSettings(epochs=9.0), 0), "another")
    made, left_out = comparable(store, NAMES)
    # The newest that counts is the newest of those that could stand there.
    assert (set(made), left_out) == ({FIRST, SECOND}, {THIRD: f"its code has changed from another to {CODE_VERSION}"})


def test_of_cells_with_other_settings_those_of_the_newest_count(store: Store) -> None:
    put_cells(store)
    put_cell(store, SECOND, VARIANTS["top-2.awr"].settings(CellSettings(learning_rate=1e-5, epochs=1.0), 0))
    made, left_out = comparable(store, NAMES)
    reason = "setting epochs has changed, setting learning_rate has changed"
    assert (set(made), left_out) == ({SECOND}, dict.fromkeys([FIRST, THIRD], reason))
