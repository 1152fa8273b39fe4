"""The lineage of a registered model is what its runs read and made; gaps are reported."""

from collections.abc import Callable
from pathlib import Path

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.tracking.lineage import Records, model_lineage
from adc_pipeline.tracking.node import Node
from adc_pipeline.tracking.run import Run
from adc_pipeline_tests.tracking.history import History, chain, evaluated, history, new_history

__all__ = ["history"]

NAME = "adc-top-2"


def edges(node: Node) -> set[tuple[str, str]]:
    """Pairs (made from, made) of assets in a tree, whichever way it goes."""
    above = {(each.asset, node.asset) for node in node.walk() for each in node.inputs}
    return above | {(node.asset, each.asset) for node in node.walk() for each in node.outputs}


def test_a_model_leads_back_to_the_corpus(history: History) -> None:
    made = chain(history)
    history.register(made.model)
    tree = model_lineage(history.client, NAME, "1")
    assert {(node.asset, node.digest) for node in tree.walk()} == {(each.name, each.digest) for each in made.all}
    assert edges(tree) == {(name, each.name) for each in made.all for name in each.inputs}
    for node in tree.walk():
        assert node.run in history.runs[node.digest]
        assert node.tags["dagster.run_id"] == f"dagster of {node.asset}"
        assert not node.note
    assert tree.settings == {"learning_rate": "0.1"}
    assert tree.models == (f"{NAME}/1",)
    corpus = tree.find("raw_corpus")
    assert corpus is not None
    assert corpus.settings == {"corpus": "a"}
    assert corpus.counts == {"characters": 1}


@pytest.mark.slow
def test_downstream_artefacts_are_the_reverse_of_upstream_ones(history: History) -> None:
    first, second = chain(history, "a"), chain(history, "b")
    evaluations = evaluated(history, first, "a"), evaluated(history, second, "b")
    for each in (first, second):
        history.register(each.model)
    records = Records([history.client])
    for made, evaluation, version in zip((first, second), evaluations, ("1", "2"), strict=True):
        whole = (*made.all, evaluation)
        (tree,) = records.below(made.corpus.digest)
        assert edges(tree) == {(name, each.name) for each in whole for name in each.inputs}
        assert {node.digest for node in tree.walk()} == {each.digest for each in whole}
        model = tree.find("top_2_model")
        assert model is not None
        assert model.models == (f"{NAME}/{version}",)
    newest, oldest = records.below("raw_corpus")
    assert (newest.digest, oldest.digest) == (second.corpus.digest, first.corpus.digest)
    (short,) = records.below(first.dataset.digest[:8])
    assert {node.asset for node in short.walk()} == {"top_2", "base_model", "top_2_model", "top_2_evaluation"}


@pytest.mark.slow
def test_the_maker_is_a_run_that_ended_before_the_reader(history: History) -> None:
    early, late = history.make("raw_corpus", "early"), history.make("raw_corpus", "late")
    utterances = history.make("utterances", "same", (early,))
    dataset = history.make("top_2", "a", (utterances,))
    history.make("utterances", "same", (late,))
    records = Records([history.client])
    found = records.above(dataset.digest).find("raw_corpus")
    assert found is not None
    assert found.digest == early.digest
    # Without a reader, the maker is the newest run.
    newest = records.above(utterances.digest).find("raw_corpus")
    assert newest is not None
    assert newest.digest == late.digest


def test_an_unfinished_run_is_the_maker_only_if_there_is_no_other(history: History) -> None:
    made = history.make("raw_corpus", "a")
    again = history.make("raw_corpus", "a")
    assert made.digest == again.digest
    first, second = history.runs[made.digest]
    history.client.set_terminated(second, "FAILED")
    assert Records([history.client]).above(made.digest).run == first
    history.client.set_terminated(first, "FAILED")
    node = Records([history.client]).above(made.digest)
    assert node.run == second
    assert "FAILED" in node.note


@pytest.mark.slow
def test_a_deleted_run_is_read_and_marked_as_deleted(history: History) -> None:
    made = chain(history)
    history.register(made.model)
    history.client.delete_run(history.runs[made.dataset.digest][0])
    tree = model_lineage(history.client, NAME, "1")
    (noted,) = [node for node in tree.walk() if node.note]
    assert noted.asset == "top_2"
    assert "is deleted" in noted.note
    assert tree.find("raw_corpus") is not None


def test_runs_of_a_deleted_experiment_are_still_read(history: History) -> None:
    corpus = history.make("raw_corpus", "a")
    history.client.delete_experiment(history.tracking.experiment(history.client))
    client = history.client
    other = client.create_experiment("another", artifact_location=str(history.store.home))
    run = client.create_run(other, tags={"adc.asset": "utterances", "adc.digest": "f" * 32})
    Run(client, run.info.run_id, "", history.tracking.uri).artefact(corpus, "input")
    client.set_terminated(run.info.run_id)
    tree = Records([client]).above("f" * 32)
    assert [node.digest for node in tree.walk()] == ["f" * 32, corpus.digest]


@pytest.mark.slow
def test_a_purged_run_leaves_a_node_with_a_note(history: History) -> None:
    made = chain(history)
    history.register(made.model)
    history.purge(made.utterances)
    tree = model_lineage(history.client, NAME, "1")
    node = tree.find("utterances")
    assert node is not None
    assert (node.digest, node.run) == (made.utterances.digest, None)
    assert "purged" in node.note
    assert tree.find("raw_corpus") is None


@pytest.mark.slow
def test_the_purged_run_of_a_model_is_named_unless_its_version_has_the_digest(history: History) -> None:
    made = chain(history)
    again = history.make("top_2_model", "b", (made.dataset, made.base))
    version = history.register(again)
    history.purge(again)
    with pytest.raises(PipelineError, match=r"was made by the MLflow run \w+, which is not at .* `--tracking-uri`"):
        model_lineage(history.client, NAME, version)
    history.client.set_model_version_tag(NAME, version, "adc.asset", "top_2_model")
    history.client.set_model_version_tag(NAME, version, "adc.digest", again.digest)
    node = model_lineage(history.client, NAME, version)
    assert (node.digest, node.run, node.models) == (again.digest, None, (f"{NAME}/{version}",))


@pytest.mark.slow
def test_runs_on_two_tracking_servers_are_one_tree(history: History, empty_database: Path, tmp_path: Path) -> None:
    data = new_history(tmp_path / "data", empty_database)
    corpus = data.make("raw_corpus", "a")
    dataset = data.make("top_2", "a", (corpus,))
    model = history.make("top_2_model", "a", (dataset,))
    history.register(model)
    alone = model_lineage(history.client, NAME, "1")
    assert [node.run is None for node in alone.walk()] == [False, True]
    assert "another tracking server" in alone.inputs[0].note
    records = Records([history.client, data.client])
    tree = records.above_version(records.version(NAME, "1"))
    assert [node.digest for node in tree.walk()] == [model.digest, dataset.digest, corpus.digest]
    assert [node.server for node in tree.walk()] == [history.tracking.uri, data.tracking.uri, data.tracking.uri]
    (below,) = records.below(corpus.digest)
    assert [node.asset for node in below.walk()] == ["raw_corpus", "top_2", "top_2_model"]
    with pytest.raises(PipelineError, match="no registered model adc-top-2"):
        Records([data.client, history.client]).version(NAME, "1")
    # The run may be on another server than the registry.
    other = Records([history.client])
    history.purge(model)
    with pytest.raises(PipelineError, match="another tracking server"):
        other.above_version(other.version(NAME, "1"))


def renamed(history: History, model: Artefact) -> None:
    history.client.rename_registered_model(NAME, "answers")


def deleted(history: History, model: Artefact) -> None:
    history.register(model)
    history.client.delete_model_version(NAME, "1")


@pytest.mark.parametrize(
    ("change", "model", "which", "sentence"),
    [
        (None, "nobody", "1", r"no registered model nobody at .*; registered are adc-top-2"),
        (None, NAME, "2", r"no version 2: its versions are 1 .* aliases none"),
        (None, NAME, "champion", r"no alias 'champion': its versions are 1"),
        (
            renamed,
            NAME,
            "1",
            r"no registered model adc-top-2 at .*, but answers holds what was registered as",
        ),
        (deleted, NAME, "1", r"no version 1: its versions are 2"),
    ],
)
def test_an_error_lists_what_exists(
    history: History,
    change: Callable[[History, Artefact], None] | None,
    model: str,
    which: str,
    sentence: str,
) -> None:
    made = history.make("top_2_model", "a")
    history.register(made)
    if change:
        change(history, made)
    with pytest.raises(PipelineError, match=sentence):
        Records([history.client]).version(model, which)


def test_latest_and_aliases_lead_to_their_versions(history: History) -> None:
    first, second = (history.make("top_2_model", what) for what in "ab")
    for made in (first, second):
        history.register(made)
    history.client.set_registered_model_alias(NAME, "champion", "1")
    records = Records([history.client])
    for which, made in (("latest", second), ("champion", first), ("1", first)):
        assert records.above_version(records.version(NAME, which)).digest == made.digest


def test_a_version_of_something_else_is_refused(history: History) -> None:
    client = history.client
    run = client.create_run(history.tracking.experiment(client))
    client.create_registered_model("other")
    client.create_model_version("other", "s3://somewhere/model", run.info.run_id)
    client.create_model_version("other", "s3://somewhere/model")
    for version, sentence in (("1", "was not made by this pipeline"), ("2", "names no MLflow run")):
        with pytest.raises(PipelineError, match=sentence):
            model_lineage(client, "other", version)


@pytest.mark.parametrize("digest", ["zz", "abc", "0123456789", "' OR 1=1"])
def test_an_unknown_digest_is_refused(history: History, digest: str) -> None:
    with pytest.raises(PipelineError, match="digest"):
        Records([history.client]).above(digest)
