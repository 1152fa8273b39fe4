"""Write the card of a model, `README.md` in its folder, in the Hugging Face Hub's format.

Its metadata are huggingface_hub's `ModelCardData`: the headline figures are its `model-index`, each with its 95 %
interval and its number of cases. The text names objective, data with digests, and limits. A card needs the results, so
the evaluation writes it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adc_pipeline.core.markdown import code, escape, table
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.evaluation.headlines import HEADLINES
from adc_pipeline.evaluation.intervals.estimate import Estimate
from adc_pipeline.generation.chat_template import CHAT_TEMPLATE
from adc_pipeline.training.texts.facts import ModelFacts

HELD_OUT = "test"

BODY = """
# {name}

{base} fine-tuned on the dataset {dataset} of conversations from {corpus}. A text is a walk down a conversation: each
reply is followed by a marker that says whether readers preferred it ({accepted}) or another reply ({rejected}).

## Use
{use}
## Results

On the held-out conversations of the test split, with 95 % bootstrap intervals over conversations. `base` is the model
before the fine-tuning.

{results}

## Training

Objective: {objective}.

{settings}

## Data

{digests}

A digest is a content hash of an artefact's files. MLflow has the run that made each artefact, with its settings and
inputs.

## Limits

- P(accepted) tells which of some replies these readers voted for, not which one is true, safe or kind. Votes also
  depend on when a reply was written and on how many people saw it.
- The figures hold for conversations of this corpus. Nobody has checked the replies that the model writes.
- {context}
{meaningless}"""

USE = """
```python
from transformers import pipeline

reply = pipeline("text-generation", "PATH")
post = {"role": "user", "content": "A title\\nand a text"}
rejected = {"role": "rejected", "content": "A reply that will not do."}
print(reply([post, rejected], return_full_text=False))
```

The chat template writes the markers, and neutralises those that a message contains. Generation stops at a marker.
"""
WITHOUT_TEMPLATE = """
The model has no chat template: its tokenizer or its objective does not let one write the texts of its training. Use it
with `adc generate` and `adc score`.
"""


NOTHING = Estimate(None, None, None, 0, 0)


@dataclass(frozen=True)
class Subject:
    """What a card is about: the registered model's name and folder, its data, and what it was made from."""

    name: str
    folder: Path
    dataset: str
    base: str
    corpus: str
    settings: Mapping[str, Any]
    # The model, the dataset and what they were made from.
    artefacts: Sequence[Artefact]


def model_card(subject: Subject, model: Mapping[str, Estimate], base: Mapping[str, Estimate]) -> str:
    """Return the card; `model` and `base` are the estimates of an evaluation."""
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    facts = ModelFacts.read(subject.folder)
    known = {name: model[name] for name in HEADLINES if name in model and model[name].value is not None}
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=subject.dataset,
            dataset_name=f"{subject.dataset} walks from {Path(subject.corpus).name}",
            dataset_split=HELD_OUT,
            dataset_revision=next((made.digest for made in subject.artefacts if made.name == subject.dataset), None),
            metric_type=name,
            metric_name=name,
            metric_value=estimate.value,
            metric_args={"low": estimate.low, "high": estimate.high, "cases": estimate.cases},
        )
        for name, estimate in known.items()
    ]
    metadata = ModelCardData(
        model_name=subject.name,
        eval_results=results or None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["conversations", "human-preferences", facts.objective],
        base_model=subject.base if is_on_the_hub(subject.base) else None,
    )
    length = facts.sequence_length
    body = BODY.format(
        name=escape(subject.name),
        base=escape(subject.base),
        dataset=code(subject.dataset),
        corpus=escape(Path(subject.corpus).name),
        accepted=code("<accepted>"),
        rejected=code("<rejected>"),
        use=USE if (subject.folder / CHAT_TEMPLATE).exists() else WITHOUT_TEMPLATE,
        results=table(
            ["metric", "model", "95 % interval", "base", "cases"],
            [
                (
                    code(name),
                    shown(each.value),
                    interval(each),
                    shown(base.get(name, NOTHING).value),
                    each.cases,
                )
                for name, each in known.items()
            ],
            right=[1, 2, 3, 4],
        ),
        objective=code(facts.objective),
        settings=table(["setting", "value"], [(name, str(value)) for name, value in subject.settings.items()]),
        digests=table(["artefact", "digest"], [(made.name, code(made.digest)) for made in subject.artefacts]),
        context=f"It was trained on texts of at most {length} tokens; beyond them its positions are untrained."
        if length
        else "The longest text of its training is not known.",
        meaningless="".join(
            f"- Its objective gives {code(name)} no meaning.\n" for name in facts.measures_without_meaning
        ),
    )
    return str(ModelCard(f"---\n{metadata.to_yaml()}\n---\n{body}"))


def is_on_the_hub(name: str) -> bool:
    """Return whether a base model's name is one of the Hub, such as `org/name`, and not a folder."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and not Path(name).exists()


def shown(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.4g}"


def interval(estimate: Estimate) -> str:
    return f"{shown(estimate.low)} to {shown(estimate.high)}" if estimate.low is not None else estimate.refused or ""
