"""Serve a model with MLflow: send a post and the rejected replies, get a reply.

A custom MLflow flavour. The folder is what `mlflow.transformers` writes, so that `mlflow.transformers.load_model` gives
the plain model. The class that `mlflow.pyfunc` loads, and `mlflow models serve` therefore serves, is our own. The
package's code that a server needs is part of the model (0.3 MB), so that it needs only the requirements.
"""

import logging
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.records import parsed
from adc_pipeline.core.threads import wait_briefly
from adc_pipeline.generation.questions import conversation_of
from adc_pipeline.generation.requests import read_rows_with_lists
from adc_pipeline.training.texts.facts import FACTS

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import Model, ModelSignature

    from adc_pipeline.generation.replier import Replier

# MLflow's warnings about a model that lies in a folder and not on the Hub.
NOT_ON_THE_HUB = ("The model card could not be retrieved", "Unable to find license information")
# Set by `mlflow models serve`: that this process is a server, and the seconds after which it ends a request with 504.
IN_SERVER, TIMEOUT = "_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"
# Share of the timeout that replies may take, and seconds after which the rest of a request is estimated.
USED, SECONDS_TO_ESTIMATE = 0.9, 5.0
REQUIREMENTS = ("torch", "transformers", "accelerate", "numpy")
PACKAGE = Path(__file__).parents[1]

DESCRIPTION = """\
Serve it: `mlflow models serve -m models:/{name}/{version} --env-manager local -p 5001`. Ask it:

    curl http://127.0.0.1:5001/invocations -H 'Content-Type: application/json' -d '{{
      "dataframe_records": [{{"post": "A title\\nand a text",
                             "rejected": ["A reply that will not do."]}}],
      "params": {{"max_new_tokens": 100}}}}'

Columns: `post`; optional `title` (else the first line of the post), `speaker` (of the post), `turns` below it (objects
with `text`, `verdict` and `speaker`) and `rejected` (replies that were rejected, in their order). Answer: `reply`, and
`speaker`, the name that the model gave its reply.

A row with `candidates`, a list of replies, gets no reply but their ranking: for each candidate `p_accepted`, `rank` and
`margin`, as `adc score` gives them.
"""


def signature() -> "ModelSignature":
    """Return the signature of a served model; it answers each input row with one row."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import AnyType

    from adc_pipeline.generation.settings import Sampling

    text, default = DataType.string, Sampling()
    return ModelSignature(
        inputs=Schema(
            [
                ColSpec(text, "post"),
                # Of any type, since MLflow refuses a column of nulls as a text, and nulls in one of lists; `question`
                # checks them.
                ColSpec(AnyType(), "title", required=False),
                ColSpec(AnyType(), "speaker", required=False),
                ColSpec(AnyType(), "rejected", required=False),
                ColSpec(AnyType(), "turns", required=False),
                ColSpec(AnyType(), "candidates", required=False),
            ]
        ),
        outputs=Schema(
            [
                ColSpec(text, "reply", required=False),
                ColSpec(text, "speaker", required=False),
                ColSpec(AnyType(), "candidates", required=False),
            ]
        ),
        params=ParamSchema(
            [
                ParamSpec("temperature", DataType.double, default.temperature),
                ParamSpec("top_p", DataType.double, default.top_p),
                ParamSpec("max_new_tokens", DataType.long, default.max_new_tokens),
                ParamSpec("seed", DataType.long, default.seed),
            ]
        ),
    )


def save_model(path: str, mlflow_model: "Model", folder: Path, loader: str = __name__) -> None:
    """Write a Hugging Face folder as an MLflow model into `path`; `mlflow.models.Model.log` calls this.

    `loader` is the module with `_load_pyfunc`.
    """
    import mlflow.transformers
    from transformers import AutoTokenizer

    from adc_pipeline.training.architectures.loading import load_model
    from adc_pipeline.training.architectures.precision import convert, stored_type

    logging.getLogger("mlflow.transformers").addFilter(is_of_use)
    model = load_model(folder)
    convert(model, stored_type(str(folder), local_files_only=True))
    with tempfile.TemporaryDirectory(prefix="adc-code-") as code:
        copy_code(Path(code), loader)
        mlflow.transformers.save_model(
            # Pass the loaded parts, not the folder: MLflow 3.17 expects files that transformers 5 no longer writes.
            transformers_model={
                "model": model,
                "tokenizer": AutoTokenizer.from_pretrained(folder, local_files_only=True),
            },
            path=path,
            task="text-generation",
            mlflow_model=mlflow_model,
            signature=signature(),
            code_paths=[str(Path(code) / PACKAGE.name)],
            pip_requirements=[requirement(package) for package in REQUIREMENTS],
            input_example=input_example(),
        )
    if (folder / FACTS).exists():
        shutil.copy(folder / FACTS, Path(path) / "model" / FACTS)
    mlflow_model.flavors["python_function"]["loader_module"] = loader
    mlflow_model.save(str(Path(path) / "MLmodel"))


def input_example() -> "tuple[pd.DataFrame, dict[str, Any]]":
    """Return a request, as data and parameters, that MLflow's page and a client can send as it is."""
    import pandas as pd

    row = {"post": "A title\nand a text", "rejected": ["A reply that will not do."]}
    return pd.DataFrame([row]), {"max_new_tokens": 100}


def copy_code(folder: Path, loader: str) -> None:
    """Copy the modules of this package that a model served by `loader` needs, in their packages, into `folder`."""
    # Not needed by a served model.
    from adc_pipeline.core.code_version import SOURCES

    needed = {PACKAGE / "__init__.py", *SOURCES.reached(loader)}
    needed |= {parent / "__init__.py" for path in needed for parent in path.parents if parent.is_relative_to(PACKAGE)}
    for path in needed:
        copy = folder / path.relative_to(PACKAGE.parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)


def is_of_use(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(NOT_ON_THE_HUB)


def requirement(package: str) -> str:
    """Return the requirement that installs a package's version, or a later one of a pre-release, from an index.

    An index has no builds with a local label, such as `2.13.0+cpu`, and often none of a pre-release. A build whose
    version is not one (PEP 440), such as `2.13-custom-nv`, is asked for by its name alone.
    """
    from packaging.version import InvalidVersion, Version

    try:
        installed = Version(version(package))
    except (InvalidVersion, TypeError):
        return package
    return f"{package}{'>=' if installed.is_prerelease else '=='}{installed.public}"


def _load_pyfunc(path: str) -> "Served":
    """Load a model for `mlflow.pyfunc`, which calls this with its folder."""
    return Served(loaded(path))


def loaded(path: str) -> "Replier":
    """Load the model of an MLflow folder, and have a server in this process read its requests."""
    # Before torch is imported; so a module with `_load_pyfunc` imports it later.
    wait_briefly()
    from adc_pipeline.generation.address import inside
    from adc_pipeline.generation.replier import Replier

    read_rows_with_lists()
    return Replier.load(inside(Path(path), path))


class Deadline:
    """The time that a server leaves a request, after which its answer is lost although the server goes on with it."""

    def __init__(self) -> None:
        self.seconds = float(os.environ.get(TIMEOUT) or 0) if os.environ.get(IN_SERVER) == "true" else 0
        self.arrived = monotonic()
        self.began: float | None = None

    def check(self, answered: int, rows: int) -> None:
        """Raise PipelineError if the other rows of a request cannot be answered in time; says how many could be."""
        if not self.seconds:
            return
        now, limit = monotonic(), USED * self.seconds
        self.began = self.began or now
        spent, waited = now - self.began, self.began - self.arrived
        needed = waited + (spent / answered * rows if answered and spent > SECONDS_TO_ESTIMATE else spent)
        if needed <= limit:
            return
        if not answered:
            raise PipelineError(
                f"The server answered other requests for {waited:.0f} s first and ends this one after"
                f" {self.seconds:.0f} s ({TIMEOUT}): send it again, or fewer at a time."
            )
        raise PipelineError(
            f"{rows:,} rows take about {needed:.0f} s, and this server ends a request after {self.seconds:.0f} s: send"
            f" at most {max(1, int(answered / spent * limit / 2)):,} rows at once, or serve the model with a higher"
            f" {TIMEOUT}."
        )


class Served:
    """A model that replies to a table of posts."""

    def __init__(self, replier: "Replier") -> None:
        self.replier = replier
        # The server answers in several threads, which share one random generator.
        self.lock = Lock()

    def predict(self, model_input: "pd.DataFrame", params: dict[str, Any] | None = None) -> "pd.DataFrame":
        """Return `reply` and `speaker` for each row of `signature`'s inputs; `params` are those of `Sampling`."""
        import pandas as pd
        from mlflow.exceptions import MlflowException

        from adc_pipeline.generation.settings import Sampling

        deadline = Deadline()
        with self.lock:
            try:
                sampling = Sampling(**(params or {}))
                rows = [question(row) for row in as_rows(model_input.to_dict("records"))]
                deadline.check(0, len(rows))
                ranked = self.ranked(rows)
                asked = [conversation_of(self.replier, row) for place, row in enumerate(rows) if place not in ranked]
                replies: list[dict[str, Any]] = []
                for batch in self.replier.replies(asked, sampling):
                    replies += [{"reply": reply.text.strip(), "speaker": reply.speaker} for reply in batch]
                    if len(replies) < len(asked):
                        deadline.check(len(replies), len(asked))
                generated = iter(replies)
                answers = [
                    {"candidates": ranked[place]} if place in ranked else next(generated) for place in range(len(rows))
                ]
            except PipelineError as error:
                raise MlflowException.invalid_parameter_value(str(error)) from error
        names = ["reply", "speaker", *(["candidates"] if ranked else [])]
        # As objects, since pandas would turn a missing speaker into NaN, which is no JSON.
        return pd.DataFrame([[answer.get(name) for name in names] for answer in answers], columns=names, dtype=object)

    def ranked(self, rows: Sequence[Mapping[str, Any]]) -> dict[int, list[dict[str, Any]]]:
        """Return the ranking of each question with candidates, by its place; a subclass that can rank does."""
        if any(row["candidates"] for row in rows):
            raise PipelineError("This model was registered without the part that ranks candidates: use `adc score`.")
        return {}


def question(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of a request as a question of `adc score`, without the fields that are not given."""
    texts = {name: text_of(name, row.get(name)) for name in ("post", "title", "speaker")}
    asked: dict[str, Any] = {name: text for name, text in texts.items() if text is not None}
    rejected = [text for each in listed("rejected", row.get("rejected")) if (text := text_of("rejected", each))]
    turns = [each for each in listed("turns", row.get("turns")) if not is_missing(each)]
    candidates = listed("candidates", row.get("candidates"))
    return {"post": "", **asked, "turns": turns, "rejected": rejected, "candidates": candidates}


def as_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a request; those of a dict of columns, of which MLflow's client makes one row of lists."""
    if len(rows) != 1 or not is_list(rows[0].get("post")):
        return rows
    columns = {name: list(value) for name, value in rows[0].items() if is_list(value)}
    if len(columns) < len(rows[0]) or len({*map(len, columns.values())}) > 1:
        return rows
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def is_list(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | dict)


def is_missing(value: Any) -> bool:
    """Return whether a value is not given: no such column, None, NaN or NA."""
    # pandas is not imported where it has made no value.
    return value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and math.isnan(value))


def listed(name: str, value: Any) -> list[Any]:
    """Return the elements of a list of a request, which a cell of CSV has as JSON; none where it is not given."""
    if is_missing(value):
        return []
    if isinstance(value, str) and value.lstrip().startswith("["):
        with suppress(ValueError):
            return list(parsed(value))
    if not is_list(value):
        raise PipelineError(f"`{name}` is {value!r}; send a list of texts.")
    return list(value)


def text_of(name: str, value: Any) -> str | None:
    """Return a text of a request, or None where it is not given."""
    if is_missing(value):
        return None
    if not isinstance(value, str):
        raise PipelineError(f"`{name}` is {value!r}; send a text.")
    return str(value).replace("\r\n", "\n").rstrip("\n")
