"""Artefacts of other versions of this package are noticed, and replaced without a crash."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import SHOWN, content_digest, folder_digest, refuse_damaged, scan
from adc_pipeline.core.store.manifests import LAYOUT, MANIFEST, Artefact, write_making
from adc_pipeline.lineage import is_of_later_version


def put(store: Store) -> Artefact:
    """Make an artefact whose content is always the same."""
    with store.aside("thing") as folder:
        (folder / "content").write_text("content")
        (folder / SHOWN).mkdir()
        (folder / SHOWN / "metadata.json").write_text("{}")
        files = scan(folder)
        made = Artefact("thing", folder, content_digest(files), place="things", files=files)
        write_making(made, {"run": "1", "address": "", "outside": {}})
        return store.put(folder, made)


def age(store: Store, **manifest: object) -> Path:
    """Make the version in place look as other code wrote it; return its folder."""
    path = store.current("thing").path
    (path / MANIFEST).write_text(json.dumps({"name": "thing", "digest": path.name, **manifest}))
    return path


def test_a_manifest_of_the_first_version_is_read_but_is_no_input(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store)
    # As cf46331 wrote it: these keys, no link `current`, no folder of what is shown.
    path = age(store, code_version="1", counts={"files": 1}, inputs={}, settings={"seed": 0})
    old = store.current("thing")
    assert (old.layout, old.counts, old.files, old.unhashed) == (0, {"files": 1}, {}, ())
    with pytest.raises(PipelineError, match="made by another version of this package"):
        refuse_damaged(old)
    (path / "README.md").write_text("a card, which its digest never covered")
    assert folder_digest(path) == old.digest
    (path / "README.md").unlink()
    (path / SHOWN / "metadata.json").unlink()
    (path / SHOWN).rmdir()
    store.place("thing").unlink()
    (tmp_path / "things").unlink()
    (tmp_path / "things").symlink_to(path)
    assert store.has_versions("thing")
    with pytest.raises(PipelineError, match="materialize the asset thing first"):
        store.current("thing")

    made = put(store)
    assert made.path == path
    assert store.current("thing") == made
    assert made.layout == LAYOUT
    assert (tmp_path / "things" / SHOWN / "metadata.json").exists()
    refuse_damaged(made)


def test_a_manifest_of_a_later_version_is_refused_by_its_layout(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store)
    age(store, layout=LAYOUT + 1, invented_later={"a": 1}, unhashed=[])
    later = store.current("thing")
    with pytest.raises(PipelineError, match=rf"layout\s+\({LAYOUT + 1}, here {LAYOUT}\)"):
        refuse_damaged(later)
    refuse_damaged(replace(later, layout=LAYOUT))
    assert is_of_later_version(later.path)
    age(store, layout=LAYOUT)
    assert not is_of_later_version(later.path)
