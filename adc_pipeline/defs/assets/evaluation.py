"""The evaluation of each model, the comparison of all models, and the check that a model learned something."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from adc_pipeline.core.markdown import escape
from adc_pipeline.core.records import read_record
from adc_pipeline.core.settings import flattened
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import refuse_damaged
from adc_pipeline.core.store.manifests import Artefact, read_making
from adc_pipeline.corpus.source import is_sample
from adc_pipeline.defs.asset import declare
from adc_pipeline.defs.assets import judge as _judge  # noqa: F401  (declares the asset)
from adc_pipeline.defs.making import Making, Request
from adc_pipeline.defs.stage import Stage, kind_priority
from adc_pipeline.defs.workspace import Workspace
from adc_pipeline.evaluation.formatting import number
from adc_pipeline.evaluation.headlines import HEADLINES
from adc_pipeline.evaluation.intervals.estimate import Estimate
from adc_pipeline.evaluation.presentation.page import REPORT
from adc_pipeline.evaluation.settings import ComparisonSettings, EvaluationSettings
from adc_pipeline.generation.chat_template import MODEL_CARD
from adc_pipeline.generation.registration import read_registered
from adc_pipeline.tracking.run import Run
from adc_pipeline.tracking.runs import Tracking
from adc_pipeline.tracking.tags import NOTE
from adc_pipeline.walks.kinds import KINDS, WalkKind
from adc_pipeline.walks.learnable import shortcomings

if TYPE_CHECKING:
    from adc_pipeline.evaluation.job import EvaluationJob

# Begins the link to the comparison in an evaluation's description.
COMPARED = "## Compared"


def evaluation_stage(kind: WalkKind) -> Stage[EvaluationSettings]:
    """Return the stage of one model's evaluation on the test split."""

    def make(making: Making[EvaluationSettings]) -> None:
        from adc_pipeline.evaluation.cases.leakage import leakage_sentences
        from adc_pipeline.evaluation.evaluate import evaluate
        from adc_pipeline.evaluation.presentation.model_card import Subject, model_card
        from adc_pipeline.evaluation.presentation.small_picture import headline_series
        from adc_pipeline.evaluation.presentation.tables import short_table

        tuned, walks, base = (making.inputs[name] for name in (kind.model, kind.dataset, "base_model"))
        corpus = making.request.upstream("raw_corpus")
        # Training parameters, by which MLflow's pages can group and compare evaluations.
        trained = {"dataset": kind.name, "base_model": base.settings["name"]}
        trained |= {name: tuned.settings[name] for name in ("objective", "seed")}
        making.run.parameters(trained)
        job = replace(
            evaluation_job(making, walks, tuned.path, base.path, trained),
            shortcomings=tuple(shortcomings(walks.counts, walks.settings["walks_per_conversation"])),
            reward_cache=making.store.home / "work" / "judge" / "reward_scores",
        )
        result = evaluate(job, making.folder, making.settings, making.progress)
        registered = read_registered(tuned.path)
        headline = short_table(result).markdown()
        series = headline_series(result)
        publish(making, result.metrics(), HEADLINES, headline, series, model=registered["logged_model_id"])
        subject = Subject(
            name=registered["registered_model"],
            folder=tuned.path,
            dataset=kind.dataset,
            base=str(base.settings["name"]),
            corpus=str(corpus.settings["corpus"]),
            settings=tuned.settings,
            artefacts=[*making.inputs.values(), corpus],
        )
        making.store.amend(tuned, MODEL_CARD, model_card(subject, result.model, result.base))
        making.run.file(tuned.path / MODEL_CARD)
        leakage = " ".join(leakage_sentences(result.counts))
        making.run.note(
            f"The {kind.name} model and its base model on held-out conversations.\n\n{headline}\n\n{leakage}"
        )

    def restore(request: Request[EvaluationSettings], made: Artefact, run: Run) -> Mapping[str, Any]:
        """Log the model's card if it is gone, and the figures to another logged model, that of a later version."""
        tuned = request.inputs[kind.model].path
        there = {each.path for each in run.client.list_artifacts(run.id)}
        if (tuned / MODEL_CARD).is_file() and MODEL_CARD not in there:
            run.file(tuned / MODEL_CARD)
        logged = read_registered(tuned)["logged_model_id"]
        if not run.client.get_logged_model(logged).metrics:
            figures = read_record(made.path / "metrics.json")
            run.metrics({name: figures[name] for name in HEADLINES if figures.get(name) is not None}, model=logged)
        return {}

    def complete(settings: EvaluationSettings, partition: str | None) -> EvaluationSettings:
        return replace(settings, validation_metric=settings.validation_metric or kind.promoted_by)

    # In this order, `Store.inputs` takes the dataset and base of that model, and the utterances of that dataset.
    inputs = (kind.model, kind.dataset, "base_model", "ranked_replies", "utterances", "judge")

    def choose(store: Store) -> Mapping[str, Artefact]:
        """Return the inputs; the judge only where there is one, since a run may select the assets without it."""
        return store.inputs([name for name in inputs if name != "judge" or store.place(name).exists()])

    return Stage(
        name=kind.evaluation,
        place=f"evaluations/{kind.name}",
        group="evaluation",
        description=f"The {kind.name} model and its base model, evaluated on the conversations of the test split.",
        settings=EvaluationSettings,
        make=make,
        restore=restore,
        code=(__name__,),
        inputs=inputs,
        choose=choose,
        complete=complete,
        # The report shows them.
        reads=(*inputs, "raw_corpus"),
        kinds=("pytorch", "mlflow"),
        priority=kind_priority(kind),
        table=case_table,
    )


def evaluation_job(
    making: Making[Any], walks: Artefact, model: Path, base: Path, trained: Mapping[str, Any]
) -> "EvaluationJob":
    """Return the job of comparing `model` with `base` on the test split of `walks`, from the inputs of the asset.

    `trained` says, in the report, what was trained.
    """
    from adc_pipeline.evaluation.job import EvaluationJob

    read, corpus = making.inputs, making.request.upstream("raw_corpus")
    judge = read.get("judge")
    return EvaluationJob(
        model=model,
        base=base,
        dataset=walks.path,
        utterances=read["utterances"].path,
        ranked=read["ranked_replies"].path,
        speakers=walks.settings["speakers"],
        mentions=walks.settings.get("mentions", "names"),
        provenance=provenance(trained, [*read.values(), corpus]),
        judge=judge.path if judge else None,
        exclude_repeated_roots=not is_sample(corpus.settings["corpus"]),
    )


def case_table(folder: Path) -> list[str]:
    from adc_pipeline.evaluation.case_table import CASE_TABLE

    return [str(folder / CASE_TABLE)]


def make_comparison(making: Making[ComparisonSettings]) -> None:
    from adc_pipeline.evaluation.compare import compare
    from adc_pipeline.evaluation.presentation.tables import short_comparison_table
    from adc_pipeline.evaluation.presentation.verdict import headline_names, verdict

    folders = {kind.name: making.inputs[kind.evaluation].path for kind in KINDS.values()}
    facts = comparison_facts(making)
    result = compare(folders, making.folder, making.settings, facts)
    sentence = " ".join(verdict(result))
    table = short_comparison_table(result).markdown()
    making.metadata["verdict"] = dg.MetadataValue.md(escape(sentence))
    models = {name: each.model for name, each in result.evaluations.items()}
    names = headline_names(result)
    # The models' own figures are metrics of their evaluations, under the names that MLflow's charts compare.
    publish(making, result.metrics(), names, table, models, logged=[name for name in names if "_minus_" in name])
    making.run.note(f"{escape(sentence)}\n\n{table}")
    link_evaluations(making.request, making.run, escape(sentence))


def restore_comparison(request: Request[ComparisonSettings], made: Artefact, run: Run) -> Mapping[str, Any]:
    """Link the evaluations to the comparison where they have lost the link, or the comparison has another run."""
    said, _, _ = run.client.get_run(run.id).data.tags.get(NOTE, "").partition("\n\n")
    link_evaluations(request, run, said)
    return {}


def link_evaluations(request: Request[ComparisonSettings], run: Run, said: str) -> None:
    """Link from the evaluations' descriptions in MLflow to the comparison, whose `run` says `said`."""
    link = f"[Comparison with the other models]({run.address}): {said}"
    for kind in KINDS.values():
        link_from(request.inputs[kind.evaluation], request.tracking, link)


def comparison_facts(making: Making[ComparisonSettings]) -> dict[str, str]:
    """Return what the head of the report says of where the models come from, by label."""
    facts: dict[str, str] = {"date": datetime.now(UTC).strftime("%Y-%m-%d")}
    for kind in KINDS.values():
        evaluation = making.inputs[kind.evaluation]
        model = making.store.version(kind.model, evaluation.inputs[kind.model])
        refuse_damaged(model)
        registered = read_registered(model.path)
        facts["corpus"] = str(evaluation.upstream_settings["raw_corpus"]["corpus"])
        facts["base model"] = str(evaluation.upstream_settings["base_model"]["name"])
        facts[kind.name] = f"{registered['registered_model']} version {registered['registered_version']}"
    return facts


def link_from(evaluation: Artefact, tracking: Tracking, link: str) -> None:
    """Add to the description of an evaluation's MLflow run a link to the comparison, in place of an earlier one."""
    run = tracking.find_run(read_making(evaluation)["run"])
    if run is None or run.info.lifecycle_stage != "active" or link in (before := run.data.tags.get(NOTE, "")):
        return
    text = before.partition(COMPARED)[0].rstrip()
    tracking.client().set_tag(run.info.run_id, NOTE, f"{text}\n\n{COMPARED}\n\n{link}\n".lstrip())


def provenance(trained: Mapping[str, Any], artefacts: Sequence[Artefact]) -> dict[str, str]:
    """Return what was trained, digest and settings of everything upstream, and the versions of what computed it."""
    facts = {name: str(value) for name, value in trained.items()}
    for artefact in artefacts:
        facts[f"{artefact.name}: digest"] = artefact.digest
        facts |= {f"{artefact.name}: {name}": str(value) for name, value in flattened(artefact.settings).items()}
    facts["version of Python"] = platform.python_version()
    return facts | {f"version of {name}": version(name) for name in ("torch", "transformers", "duckdb")}


def publish(
    making: Making[Any],
    metrics: Mapping[str, float | None],
    headlines: Sequence[str],
    table: str,
    series: Mapping[str, Mapping[str, Estimate]],
    below: str = "",
    model: str | None = None,
    logged: Sequence[str] | None = None,
) -> None:
    """Log the headline metrics, all files and plots to MLflow, and show them in Dagster.

    All metrics are in the files. `series` are those of the small picture. The report is in the subfolder `below` of the
    artefact; `model` is the id of the logged model that was evaluated. Dagster shows all `headlines`, and MLflow those
    that are `logged`, by default all.
    """
    from adc_pipeline.evaluation.presentation.small_picture import small_headline

    if picture := small_headline(series):
        making.metadata["picture"] = dg.MetadataValue.md(picture)
    folder = making.folder / below
    known = {name: value for name in headlines if (value := metrics.get(name)) is not None}
    making.run.metrics({name: value for name, value in known.items() if logged is None or name in logged}, model=model)
    making.metadata["figures"] = dg.MetadataValue.md(table)
    making.metadata |= known
    making.log_files(folder)
    page, _, view = making.run.address.partition("?")
    making.metadata["report"] = dg.MetadataValue.md(f"[report.html]({page}/artifacts/report.html?{view})")
    report = making.store.home / making.request.place / below / REPORT
    making.metadata["report_file"] = dg.MetadataValue.path(str(report))
    making.show_plots(folder)


def perplexity_check(asset: dg.AssetsDefinition) -> dg.AssetChecksDefinition:
    name = asset.key.to_user_string()

    @dg.asset_check(asset=asset, name="learned_something", blocking=True)
    def learned_something(workspace: Workspace) -> dg.AssetCheckResult:
        """Perplexity on the test split is finite and below the base model's."""
        from adc_pipeline.evaluation.evaluation import Evaluation
        from adc_pipeline.evaluation.left_out import nothing_evaluated

        result = Evaluation.read(workspace.store.current(name).path)
        ours, base = result.model["perplexity"].value, result.base["perplexity"].value
        why = None
        if ours is None or base is None:
            why = nothing_evaluated(result.counts)
        elif not result.learned_something():
            why = f"Held-out perplexity is {number(ours)}, not below the base model's {number(base)}:"
            why += " train for more `epochs`, or with a lower `learning_rate`."
        return dg.AssetCheckResult(
            passed=why is None, description=why, metadata={"perplexity": ours, "base.perplexity": base}
        )

    return learned_something


evaluations = [declare(evaluation_stage(kind)) for kind in KINDS.values()]
comparison = declare(
    Stage(
        name="comparison",
        place="evaluations/comparison",
        group="evaluation",
        description="All models and the base model side by side, paired on the test cases that they share.",
        settings=ComparisonSettings,
        make=make_comparison,
        restore=restore_comparison,
        code=(__name__,),
        inputs=tuple(kind.evaluation for kind in KINDS.values()),
        # It shows the date and the models' versions.
        unhashed=(REPORT,),
        kinds=("mlflow",),
    )
)
checks = [perplexity_check(asset) for asset in evaluations]
