"""Which artefacts a cell may be made of, and which cells may stand side by side. No model is trained."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from adc_pipeline.artefacts import Artefact, Store, combined_digest
from adc_pipeline.errors import PipelineError
from adc_pipeline.study.cells import inputs_of
from adc_pipeline.study.grid import VARIANTS
from adc_pipeline.walks.datasets import WalkSettings

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
    for name in ("top_2", "random_walk"):
        put_walks(store, name, of)
    put(store, "base_model")
    return store


def test_a_cell_is_made_of_what_is_in_place(store: Store) -> None:
    read = inputs_of(store, VARIANTS["both.mle"])
    assert set(read) == {"top_2", "random_walk", "base_model", "utterances", "ranked_replies"}
    assert all(artefact == store.current(name) for name, artefact in read.items())


@pytest.mark.parametrize("variant", ["both.mle", "top-2.mle"])
def test_datasets_of_other_splits_are_refused_by_the_settings_name(store: Store, variant: str) -> None:
    """A conversation that one has in its test split, the other may have in training."""
    put_walks(store, "random_walk", store.current("random_walk").inputs, shares=(90, 5, 5))
    with pytest.raises(PipelineError, match=r"^top_2 has the setting `shares` \[80, 10, 10\] and .*\[90, 5, 5\]"):
        inputs_of(store, VARIANTS[variant])


@pytest.mark.parametrize("name", ["utterances", "ranked_replies"])
def test_datasets_of_other_corpora_are_refused_by_the_inputs_name(store: Store, name: str) -> None:
    other = put(store, name, {"of": "another corpus"})
    put_walks(store, "random_walk", store.current("random_walk").inputs | {name: other.digest})
    with pytest.raises(PipelineError, match=f"^top_2 was made of `{name}` .* and random_walk of {other.digest}"):
        inputs_of(store, VARIANTS["both.mle"])
