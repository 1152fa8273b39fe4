"""Serve a model with MLflow that ranks candidates as well as it replies: a row with `candidates` is ranked.

`generation.serving` is the flavour that writes and serves a model. This module adds what needs the evaluation's scorer.
The answer is that of `adc score`. All candidates of a request are scored together.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adc_pipeline.generation import serving
from adc_pipeline.generation.serving import Served

if TYPE_CHECKING:
    from mlflow.models import Model

    from adc_pipeline.evaluation.scoring.candidates import Ranker


def save_model(path: str, mlflow_model: "Model", folder: Path) -> None:
    """Write a Hugging Face folder as an MLflow model into `path`; `mlflow.models.Model.log` calls this."""
    serving.save_model(path, mlflow_model, folder, __name__)


def _load_pyfunc(path: str) -> "ServedRanker":
    """Load a model for `mlflow.pyfunc`, which calls this with its folder."""
    return ServedRanker(serving.loaded(path))


class ServedRanker(Served):
    """A model that replies to a table of posts, and ranks the candidates of those that have some."""

    @cached_property
    def ranker(self) -> "Ranker":
        # Imported here: a server imports this module before it can say how threads wait, which torch reads.
        from adc_pipeline.evaluation.scoring.candidates import Ranker

        return Ranker.of(self.replier, "the served model")

    def ranked(self, rows: Sequence[Mapping[str, Any]]) -> dict[int, list[dict[str, Any]]]:
        """Return the figures of the candidates of each question that has some."""
        asked = {place: each for place, each in enumerate(rows) if each["candidates"]}
        if not asked:
            return {}
        queries = [self.ranker.queries_of(each) for each in asked.values()]
        return {place: answer["candidates"] for place, answer in zip(asked, self.ranker.scored(queries), strict=True)}
