"""The champion assets: week after week the alias moves or stays, and the version records why."""

import json
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner

from adc_pipeline.cli.main import main
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.content import folder_digest
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.defs.assets.lifecycle import champions
from adc_pipeline.defs.workspace import Workspace
from adc_pipeline.evaluation.formatting import interval
from adc_pipeline.lifecycle.changes import what_changed
from adc_pipeline.lifecycle.registry import pinned, promote
from adc_pipeline.tracking.lineage import Records
from adc_pipeline.tracking.node import Node
from adc_pipeline_tests.promotion.evaluations import DRAWS, answers, write_evaluation
from adc_pipeline_tests.tracking.history import Chain, History, chain, history

pytestmark = pytest.mark.slow

__all__ = ["history"]

NAME = "adc-top-2"


@dataclass
class Weeks:
    """Weekly runs up to an evaluation with given answers, and then the real asset `top_2_champion`."""

    history: History
    instance: dg.DagsterInstance

    def run(self, what: str, share: float, **config: Any) -> dict[str, Any]:
        """Run a week whose model answers right in this share; return the metadata of the decision."""
        made = self.trained(what)
        self.evaluated(made, share)
        return self.decide(**config)

    def trained(self, what: str) -> Chain:
        made = chain(self.history, what)
        version = self.history.register(made.model)
        facts = {"registered_model": NAME, "registered_version": int(version), "logged_model_id": "none"}
        (self.history.store.place("top_2_model") / "registered.json").write_text(json.dumps(facts))
        return made

    def evaluated(self, made: Chain, share: float) -> Artefact:
        store, inputs = self.history.store, (made.model, made.dataset, made.base)
        with store.aside("top_2_evaluation") as folder, self.history.tracking.run("top_2_evaluation", {}, {}) as run:
            for artefact in inputs:
                run.artefact(artefact, "input")
            run.metrics({"preference_accuracy": share, "preference_accuracy.low": share - 0.1,
                         "preference_accuracy.high": share + 0.1})  # fmt: skip
            write_evaluation(folder, answers(share))
            digests = {artefact.name: artefact.digest for artefact in inputs}
            evaluation = Artefact(
                "top_2_evaluation", folder, folder_digest(folder), {"max_context_tokens": 1024}, digests
            )
            return self.history.put(run, folder, evaluation)

    def decide(self, **config: Any) -> dict[str, Any]:
        result = dg.materialize(
            [champions[0]],
            resources={"workspace": Workspace()},
            run_config={"ops": {"top_2_champion": {"config": {"draws": DRAWS, **config}}}},
            instance=self.instance,
        )
        (event,) = result.get_asset_materialization_events()
        shown = {key: each.value for key, each in event.materialization.metadata.items()}
        # The page has short lines, of which none begins like a list.
        return shown | {"decision": " ".join(str(shown["decision"]).replace("\\", "").split())}

    def aliases(self) -> dict[str, str]:
        return {key: str(value) for key, value in self.history.client.get_registered_model(NAME).aliases.items()}

    def tags(self, version: int) -> dict[str, str]:
        return dict(self.history.client.get_model_version(NAME, str(version)).tags)


def described_version(weeks: Weeks, version: int) -> str:
    return weeks.history.client.get_model_version(NAME, str(version)).description or ""


@pytest.fixture
def weeks(history: History) -> Weeks:
    return Weeks(history, dg.DagsterInstance.ephemeral())


def test_the_alias_moves_only_to_better_versions_and_each_version_records_why(weeks: Weeks) -> None:
    client = weeks.history.client
    assert weeks.run("no better than its base", 0.5)["champion"] == "none"
    assert weeks.aliases() == {}
    assert weeks.run("first", 0.8)["champion"] == "2"
    assert weeks.aliases() == {"champion": "2"}
    worse = weeks.run("worse", 0.6)
    assert worse["champion"] == "2"
    assert weeks.aliases() == {"champion": "2"}
    assert str(client.get_model_version_by_alias(NAME, "latest").version) == "3"
    assert weeks.run("better", 1.0)["champion"] == "4"
    assert weeks.aliases() == {"champion": "4"}
    assert [weeks.tags(version)["adc.promotion"] for version in (1, 2, 3, 4)] == [
        "not better", "promoted", "not better", "promoted",
    ]  # fmt: skip
    # The table of versions shows every tag as text, so the figures are in the description.
    assert set(weeks.tags(3)) == {"adc.promotion", "adc.artefact"}
    described = client.get_model_version(NAME, "3").description
    assert described is not None
    assert f"## Promotion {worse['decision']} | " in " ".join(described.split())
    cells = (line.strip("| ").split(" | ") for line in described.splitlines())
    rows = {pair[0]: pair[1] for pair in cells if len(pair) == 2}
    assert (rows["metric"], rows["against"], rows["difference"]) == ("preference_accuracy", "version 2", "−0.2000")
    assert rows["cases"] == "40"
    assert "since version 2 of adc-top-2" in str(worse["changes"])
    row = f"| preference_accuracy | 0.8000 {interval(0.7, 0.9)} | 0.6000 {interval(0.5, 0.7)} |"
    assert row in str(worse["changes"])
    decision = json.loads((weeks.history.store.place("top_2_champion") / "decision.json").read_text())
    assert (decision["verdict"], decision["version"], decision["promoted"]) == ("promoted", "4", True)


def test_deciding_again_changes_nothing_for_a_champion(weeks: Weeks) -> None:
    weeks.run("first", 0.8)
    before = weeks.tags(1)
    assert "champion already" in weeks.decide(draws=DRAWS + 1)["decision"]
    assert weeks.tags(1) == before


def test_a_decision_is_reused_until_the_champion_changes(weeks: Weeks) -> None:
    first = weeks.run("first", 0.8)
    again = weeks.decide()
    assert again["unchanged"] is True
    assert (again["champion"], again["decision"]) == ("1", first["decision"])
    weeks.run("second, as good", 0.8)
    weeks.history.client.set_registered_model_alias(NAME, "champion", "2")
    assert weeks.decide()["unchanged"] is False
    assert weeks.decide()["unchanged"] is True


def test_a_new_decision_replaces_the_old_one(weeks: Weeks) -> None:
    weeks.run("first", 0.8)
    weeks.run("second", 1.0, metric="steering")
    assert weeks.tags(2)["adc.promotion"] == "not compared"
    assert "| low |" not in described_version(weeks, 2)
    weeks.decide()
    assert weeks.tags(2)["adc.promotion"] == "promoted"
    assert "| low |" in described_version(weeks, 2)
    weeks.history.client.set_registered_model_alias(NAME, "champion", "1")
    weeks.decide(metric="steering")
    assert "| low |" not in described_version(weeks, 2)
    assert described_version(weeks, 2).count("## Promotion") == 1


def test_the_champion_stays_if_its_evaluation_is_missing(weeks: Weeks) -> None:
    weeks.run("first", 0.8)
    gone = weeks.history.store.current("top_2_evaluation")
    made = weeks.trained("second")
    weeks.evaluated(made, 1.0)
    weeks.history.store.remove(gone.name, gone.digest, weeks.history.store.made_at(gone))
    assert f"the evaluation of version 1 ({gone.digest}) is no longer in" in weeks.decide()["decision"]
    assert weeks.aliases() == {"champion": "1"}
    # Nor if its run in MLflow is deleted too.
    weeks.history.purge(gone)
    assert "no finished evaluation of version 1" in weeks.decide()["decision"]


@pytest.mark.parametrize("without_result", [False, True])
def test_a_check_that_failed_before_keeps_a_version_from_promotion(weeks: Weeks, without_result: bool) -> None:
    made = weeks.trained("first")
    weeks.evaluated(made, 1.0)

    @dg.asset
    def utterances() -> None: ...

    @dg.asset_check(asset=utterances)
    def nothing_lost() -> dg.AssetCheckResult:
        if without_result:
            raise OSError
        return dg.AssetCheckResult(passed=False)

    run = dg.materialize([utterances, nothing_lost], instance=weeks.instance, raise_on_error=False)
    assert run.success != without_result
    assert "failed the checks nothing_lost of utterances; there is still no champion" in weeks.decide()["decision"]
    assert weeks.aliases() == {}


def test_a_model_of_another_registry_is_refused(weeks: Weeks) -> None:
    weeks.run("first", 0.8)
    made = weeks.trained("second")
    weeks.evaluated(made, 1.0)
    facts = {"registered_model": NAME, "registered_version": 1, "logged_model_id": "none"}
    (weeks.history.store.place("top_2_model") / "registered.json").write_text(json.dumps(facts))
    with pytest.raises(dg.Failure, match="registered on another tracking server"):
        weeks.decide()


def test_what_changed_names_settings_code_digests_and_counts() -> None:
    def tree(digest: str, seed: str, code: str, walks: float) -> Node:
        corpus = Node("raw_corpus", "c" * 32, "r", {"adc.code_version": "1"})
        counts = {"walks": walks, "seconds": walks}
        return Node("top_2", digest, "r", {"adc.code_version": code}, [corpus], [], {"seed": seed}, counts)

    old = tree("a" * 32, "0", "1", 10)
    assert "Nothing: the same" in what_changed(old, old, "version 1")
    assert what_changed(old, tree("b" * 32, "1", "2", 12), "version 1").splitlines()[4:] == [
        "| top_2 | digest | `aaaaaaaaaaaa` | `bbbbbbbbbbbb` |",
        "| top_2 | code | `1` | `2` |",
        "| top_2 | setting `seed` | `0` | `1` |",
        "| top_2 | count walks | 10 | 12 (+2) |",
    ]


def test_a_hostile_setting_stays_in_its_cell() -> None:
    def tree(corpus: str) -> Node:
        return Node("raw_corpus", corpus[:1] * 32, "r", {}, [], [], {"corpus": corpus})

    *_, row = what_changed(tree("a"), tree("b|<img src=x>\n| `x"), "version 1").splitlines()
    assert row == r"| raw_corpus | setting `corpus` | `a` | b\|&lt;img src=x&gt; \| \`x |"


def test_the_decision_is_a_file_of_the_store(weeks: Weeks) -> None:
    weeks.run("first", 0.8)
    made = weeks.history.store.current("top_2_champion")
    assert made.inputs.keys() == {"top_2_evaluation", "top_2_model"}
    assert made.counts["promoted"] == 1
    assert (made.path / "changes.md").read_text() == "### What changed\n\nThis is the first version.\n"


def test_a_person_goes_back_to_a_version_and_pins_it(weeks: Weeks) -> None:
    weeks.run("a", 0.7)
    weeks.run("b", 0.9)
    assert weeks.aliases() == {"champion": "2"}
    records = Records([weeks.history.client])
    assert promote(records, NAME, "1", True, "ann on a laptop", "it answers in the right language") == "1"
    assert weeks.aliases() == {"champion": "1"}
    assert weeks.tags(1)["adc.promotion"] == "promoted by hand"
    assert "by ann on a laptop, and pinned: it answers in the right language" in described_version(weeks, 1)
    decided = weeks.decide()
    assert decided["decision"] == "Version 1 is pinned as champion, so version 2 is not compared with it."
    assert weeks.run("c", 1.0)["decision"].startswith("Version 1 is pinned as champion, so version 3")
    assert weeks.aliases() == {"champion": "1"}
    # Promoted without a pin: the next better version takes its place again.
    promote(records, NAME, "champion", False, "bob", "")
    assert "becomes champion" in weeks.decide()["decision"]
    assert weeks.aliases() == {"champion": "3"}


def test_a_promotion_that_is_repeated_keeps_what_it_says_of_the_champion_before(weeks: Weeks) -> None:
    """As after a kill right behind the move of the alias."""
    weeks.run("a", 0.7)
    weeks.run("b", 0.9)
    records = Records([weeks.history.client])
    for _ in range(2):
        promote(records, NAME, "1", True, "ann", "why")
        assert "Before, version 2 was champion." in described_version(weeks, 1)
    promote(records, NAME, "1", False, "ann", "why")
    assert "Before, version 1 was champion." in described_version(weeks, 1)


def test_a_version_that_a_person_went_back_from_is_not_promoted_again(weeks: Weeks) -> None:
    weeks.run("a", 0.7)
    weeks.run("b", 0.9)
    promote(Records([weeks.history.client]), NAME, "1", False, "ann", "the other one answers in the wrong language")
    for draws in (DRAWS, DRAWS + 1):
        assert "when version 2 was there" in weeks.decide(draws=draws)["decision"]
        assert weeks.aliases() == {"champion": "1"}
    assert weeks.tags(2)["adc.promotion"] == "passed over"
    # Nor if the alias was moved in MLflow's page.
    assert "becomes champion" in weeks.run("c", 1.0)["decision"]
    weeks.history.client.set_registered_model_alias(NAME, "champion", "1")
    for draws in (DRAWS, DRAWS + 1):
        assert "when version 3 was there" in weeks.decide(draws=draws)["decision"]
    assert "becomes champion" in weeks.run("d", 0.95)["decision"]


def test_a_pin_ends_where_the_alias_is_moved_in_mlflow(weeks: Weeks) -> None:
    weeks.run("a", 0.7)
    records = Records([weeks.history.client])
    promote(records, NAME, "1", True, "ann", "")
    weeks.run("b", 0.9)
    weeks.history.client.set_registered_model_alias(NAME, "champion", "2")
    assert pinned(records, NAME) is None
    assert "becomes champion" in weeks.run("c", 1.0)["decision"]


def test_a_lost_alias_is_given_back_to_the_last_champion(weeks: Weeks) -> None:
    client = weeks.history.client
    weeks.run("a", 0.9)
    weeks.run("b", 0.7)
    client.delete_registered_model_alias(NAME, "champion")
    again = weeks.decide()
    assert (again["unchanged"], again["champion"]) == (True, "1")
    assert weeks.aliases() == {"champion": "1"}
    # A pin too, and before a new version is compared.
    promote(Records([client]), NAME, "1", True, "ann", "")
    weeks.decide()
    client.delete_registered_model_alias(NAME, "champion")
    assert weeks.run("c", 1.0)["decision"].startswith("Version 1 is pinned as champion")
    assert weeks.aliases() == {"champion": "1"}
    # MLflow deletes the alias of a version with it. The newest takes its place, by its own figures.
    client.delete_model_version(NAME, "1")
    assert "minus that of the base model" in weeks.decide()["decision"]
    assert weeks.aliases() == {"champion": "3"}


def test_what_a_version_has_lost_of_its_decision_is_written_to_it_again(weeks: Weeks) -> None:
    client = weeks.history.client
    weeks.run("first", 0.8)
    before, described = weeks.tags(1), described_version(weeks, 1)
    for change in (
        lambda: client.delete_model_version_tag(NAME, "1", "adc.promotion"),
        lambda: client.set_model_version_tag(NAME, "1", "adc.promotion", "edited"),
        lambda: client.set_model_version_tag(NAME, "1", "adc.artefact", "edited"),
        lambda: client.update_model_version(NAME, "1", ""),
    ):
        change()
        assert weeks.decide()["unchanged"] is True
        assert (weeks.tags(1), described_version(weeks, 1)) == (before, described)
    client.update_model_version(NAME, "1", "Somebody's own words")
    weeks.decide()
    assert described_version(weeks, 1) == "Somebody's own words"


def test_what_is_not_there_cannot_be_promoted(weeks: Weeks) -> None:
    weeks.run("a", 0.7)
    with pytest.raises(PipelineError, match="has no version 7"):
        promote(Records([weeks.history.client]), NAME, "7", False, "ann", "")


def test_the_command_promotes(weeks: Weeks) -> None:
    weeks.run("a", 0.7)
    done = CliRunner().invoke(main, ["promote", NAME, "latest", "--pin", "--reason", "a try"])
    assert done.output == f"Version 1 of {NAME} is the champion, pinned.\n"
    assert pinned(Records([weeks.history.client]), NAME) == "1"
