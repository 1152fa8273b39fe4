"""A training that was killed while it removed something finds whole checkpoints or none."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adc_pipeline.core.atomic import remove_folder, replace_folder
from adc_pipeline.core.errors import DamagedError, PipelineError
from adc_pipeline.core.records import sealed
from adc_pipeline.core.store.artefacts import Store, remove_abandoned
from adc_pipeline.training.loop.checkpoint import (
    checkpoints,
    claim,
    drop_other_layouts,
    keep_trained_weights_only,
    latest_layout,
    load_checkpoint,
)
from adc_pipeline.training.rows.data import Layout

LAYOUT = {"row": 64, "rows_per_step": 2, "processes": 1}


class Killed(BaseException):
    pass


def work_with_checkpoints(folder: Path, *steps: int) -> Path:
    claim(folder, "mark")
    for step in steps:
        checkpoint = folder / "checkpoints" / f"step-{step:09d}"
        checkpoint.mkdir(parents=True)
        noted: dict[str, Any] = {"step": step, "tokens": 1, "seconds": 1.0, "figures": {}, "recent_losses": []}
        (checkpoint / "position.json").write_text(sealed({**noted, "layout": LAYOUT | {"row": 64 * step}}))
        (checkpoint / "weights.bin").write_text("weights")
    return folder


def killed_in_removal(monkeypatch: pytest.MonkeyPatch, remove: Callable[[], Any]) -> None:
    """Call `remove`, whose process is killed once one file of a folder is gone."""

    def half(folder: Path, *_: Any, **__: Any) -> None:
        if Path(folder).exists():
            min(path for path in Path(folder).rglob("*") if path.is_file()).unlink()
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", half)
        with pytest.raises(Killed):
            remove()


def test_a_kill_while_a_checkpoint_is_removed_leaves_whole_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = work_with_checkpoints(tmp_path / "work", 1, 2)
    newest = latest_layout(work)
    assert newest
    killed_in_removal(monkeypatch, lambda: drop_other_layouts(work, newest))
    assert [path.name for path in checkpoints(work)] == ["step-000000002"]
    # The next run goes on, and removes the rest.
    claim(work, "mark")
    drop_other_layouts(work, newest)
    assert [path.name for path in (work / "checkpoints").iterdir()] == ["step-000000002"]


def test_a_kill_while_another_jobs_work_is_removed_leaves_nothing_to_go_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = work_with_checkpoints(tmp_path / "work", 1)
    killed_in_removal(monkeypatch, lambda: claim(work, "another"))
    # The job whose work was being removed comes back.
    claim(work, "mark")
    assert not (work / "checkpoints").exists()


@pytest.mark.parametrize("remove", [remove_folder, lambda folder: remove_abandoned([folder])])
def test_a_folder_is_removed_in_one_step(
    remove: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").touch()
    killed_in_removal(monkeypatch, lambda: remove(folder))
    assert not folder.exists()
    folder.mkdir()
    remove(folder)
    assert not [*tmp_path.iterdir()]


def test_a_folder_is_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tmp_path / "folder", tmp_path / "folder.partial"
    for folder in (old, new):
        folder.mkdir()
        (folder / "file").write_text(folder.name)
    killed_in_removal(monkeypatch, lambda: replace_folder(new, old))
    assert not old.exists()
    replace_folder(new, old)
    assert (old / "file").read_text() == "folder.partial"


def test_a_kill_after_an_artefact_was_made_leaves_no_half_of_its_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> None:
        with Store(tmp_path).kept("top_2_model", "key") as work:
            work_with_checkpoints(work, 1)

    killed_in_removal(monkeypatch, make)
    with Store(tmp_path).kept("top_2_model", "key") as work:
        assert not [*work.iterdir()]
    assert not [*(tmp_path / "work/top_2_model").iterdir()]


def test_a_checkpoint_without_its_record_says_what_to_remove(tmp_path: Path) -> None:
    work = work_with_checkpoints(tmp_path / "work", 1, 2)
    assert latest_layout(work) == Layout(**LAYOUT | {"row": 128})
    (checkpoints(work)[0] / "position.json").unlink()
    with pytest.raises(DamagedError, match=r"position\.json does not exist: remove .*step-000000001, and the next run"):
        drop_other_layouts(work, Layout(**LAYOUT))


def test_a_checkpoint_of_adapters_holds_all_that_is_trained(tmp_path: Path) -> None:
    import torch
    from accelerate import Accelerator

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen, self.adapter = torch.nn.Linear(2, 2).requires_grad_(False), torch.nn.Linear(2, 2, bias=False)

    accelerator = Accelerator(cpu=True)
    model = accelerator.prepare(Model())
    keep_trained_weights_only(accelerator)
    saved = tmp_path / "checkpoints" / "step-000000001"
    accelerator.save_state(str(saved), safe_serialization=False)
    file = saved / "pytorch_model.bin"
    assert list(torch.load(file)) == ["adapter.weight"]
    learned = model.adapter.weight.clone()
    torch.nn.init.zeros_(model.adapter.weight)
    noted: dict[str, Any] = {"step": 1, "tokens": 1, "seconds": 1.0, "figures": {}, "recent_losses": []}
    (saved / "position.json").write_text(sealed({**noted, "layout": LAYOUT}))
    assert load_checkpoint(accelerator, tmp_path, in_part=True).step == 1
    assert torch.equal(model.adapter.weight, learned)
    # As several processes wrote it: the names of a wrapped model were looked for, and nothing was kept.
    torch.save({}, file)
    with pytest.raises(PipelineError, match=r"1 of the trained weights are missing, such as adapter.weight\): remove"):
        load_checkpoint(accelerator, tmp_path, in_part=True)
