"""The drills' checks find incomplete artefacts, changed contents and leftovers of killed runs. Under 1 s."""

import json
from pathlib import Path

import pytest

from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import folder_digest
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.generation.registration import REGISTERED
from adc_pipeline_tests.drills.checks import MADE, damage, digests, left_behind


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return an ADC_HOME with the complete artefacts utterances and top_2_model."""
    store = Store(tmp_path)
    for name in ("utterances", "top_2_model"):
        with store.aside(name) as folder:
            (folder / "content").write_text(name)
            (folder / REGISTERED).write_text(json.dumps({"registered_version": 1}))
            store.put(folder, Artefact(name, folder, folder_digest(folder)))
    return tmp_path


def test_complete_artefacts_have_no_damage(home: Path) -> None:
    assert damage(home) == left_behind(home) == []
    found = digests(home)
    assert set(found) == set(MADE)
    assert {name for name, digest in found.items() if digest != "missing"} == {"utterances", "top_2_model"}


def test_a_changed_content_is_damage_and_changes_the_digest(home: Path) -> None:
    before = digests(home)["utterances"]
    (Store(home).place("utterances") / "content").write_text("utterance")
    (found,) = damage(home)
    assert found.startswith("utterances has the content")
    assert digests(home)["utterances"] != before


@pytest.mark.parametrize("half", ["", '{"name": "utter'])
def test_an_incomplete_manifest_is_damage(home: Path, half: str) -> None:
    (Store(home).place("utterances") / "artefact.json").write_text(half)
    assert len(damage(home)) == 1


def test_a_dangling_place_is_missing(home: Path) -> None:
    place = Store(home).place("utterances")
    place.unlink()
    place.symlink_to("../store/utterances/none")
    assert digests(home)["utterances"] == "missing"


@pytest.mark.parametrize(
    "left",
    [
        "store/utterances/.making-1-abc/file",
        "corpus/.utterances-17",
        ".adc.duckdb-17",
        ".probe-17",
        "work/utterances/0123/part",
        "work/top_2_model/checkpoints/step-000000008.partial/file",
    ],
)
def test_leftovers_of_a_killed_run_are_found(home: Path, left: str) -> None:
    (home / left).parent.mkdir(parents=True, exist_ok=True)
    (home / left).touch()
    assert len(left_behind(home)) == 1


def test_checkpoints_are_no_leftovers(home: Path) -> None:
    kept = home / "work" / "top_2_model" / "checkpoints" / "step-000000008" / "optimizer.bin"
    kept.parent.mkdir(parents=True)
    kept.touch()
    assert left_behind(home) == []
