"""Where a model is loaded from, by the address that a person gave."""

from pathlib import Path

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.generation.address import inside


@pytest.mark.parametrize("left", ["nothing", "a file"])
def test_a_model_of_mlflow_without_its_folder_is_named_as_the_person_did(tmp_path: Path, left: str) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    if left == "a file":
        (tmp_path / "model").touch()
    with pytest.raises(PipelineError, match="`--model` models:/m/1 contains no model") as refused:
        inside(tmp_path, "models:/m/1")
    assert str(tmp_path) not in str(refused.value)
