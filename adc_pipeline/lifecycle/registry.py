"""Read and move the alias `champion` in MLflow's model registry.

A decision is written to the version's description before the alias moves, so that every champion has its figures; the
tags have the verdict and the artefact, since the table of versions shows each tag as text. The alias
`latest` is MLflow's own and always resolves to the newest version.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, get_args

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.markdown import table
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import damage
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.evaluation.formatting import number as shown
from adc_pipeline.generation.registration import HEADING as LINEAGE
from adc_pipeline.lifecycle.decision import Decision, Evaluated, Verdict
from adc_pipeline.tracking.lineage import ORIGIN, Records
from adc_pipeline.tracking.node import Node

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
# The tag that records a decision on its version; what begins with it and a point is from before 0.2.
PROMOTION = "adc.promotion"
HEADING = "## Promotion"
BY_HAND = "promoted by hand"
VERDICTS = (*get_args(Verdict), BY_HAND)
# Tag of a registered model: the version that stays champion until somebody promotes another.
PINNED = f"{PROMOTION}.pinned"
# Tag of a registered model: the version that somebody promoted by hand, and the newest version at that time.
CHOSEN = f"{PROMOTION}.chosen"


def candidate(records: Records, name: str, number: int, model: Artefact) -> tuple["ModelVersion", Node]:
    """Return the version that a model is registered as, and its lineage.

    Raise PipelineError if that version in the registry is another model.
    """
    version = records.version(name, str(number))
    node = records.above_version(version)
    if node.digest != model.digest:
        raise PipelineError(
            f"Version {number} of {name} at {records.addresses} has the digest {node.digest}, but the current"
            f" {model.name} ({model.digest}) was registered on another tracking server: set MLFLOW_TRACKING_URI to that"
            f" server, or materialize {model.name} again."
        )
    return version, node


def champion(records: Records, name: str) -> "ModelVersion | None":
    """Return the version with the alias `champion`, or None."""
    number = records.registry.get_registered_model(name).aliases.get(CHAMPION)
    return records.version(name, str(number)) if number else None


def evaluated(records: Records, store: Store, version: "ModelVersion", asset: str) -> Evaluated:
    """Return the newest evaluation of a version that is still on disk, or the reason why there is none.

    `asset` names the evaluation asset. MLflow knows the evaluations; the artefact store has their files.
    """
    number = str(version.version)
    try:
        model = records.above_version(version)
    except PipelineError as error:
        return Evaluated(number, None, missing=f"the evaluations of version {number} are unknown ({error})")
    known = records.evaluations(asset, model)
    for node in known:
        try:
            found = store.version(asset, node.digest)
        except PipelineError:
            continue
        if damaged := damage(found):
            files = f"{', '.join(damaged[:3])} of the evaluation {node.digest} of version {number}"
            return Evaluated(number, None, missing=f"{files} is missing or altered")
        return Evaluated(number, found.path, found.settings.get("max_context_tokens"))
    if not known:
        return Evaluated(number, None, missing=f"MLflow has no finished evaluation of version {number}")
    reason = f"the evaluation of version {number} ({known[0].digest}) is no longer in {store.home / 'store' / asset}"
    return Evaluated(number, None, missing=reason)


def previous(records: Records, version: "ModelVersion") -> "ModelVersion | None":
    """Return the version registered before this one, or None."""
    before = [each for each in records.versions(version.name) if int(each.version) < int(version.version)]
    return max(before, key=lambda each: int(each.version), default=None)


def record(records: Records, version: "ModelVersion", model: Node, evaluation: str, decision: Decision) -> None:
    """Write a decision to its version's tags and description, and then move the alias if the version was promoted."""
    describe_decision(records, version, model, evaluation, decision)
    if decision.promoted:
        records.registry.set_registered_model_alias(version.name, CHAMPION, str(version.version))


def restore(records: Records, version: "ModelVersion", model: Node, evaluation: str, decision: Decision) -> bool:
    """Write a decision again if its version has lost tags or description; return whether it had.

    Where the alias leads is not looked at: a person may have moved it. Words of a person's own in the description stay.
    """
    text, verdict = version.description or "", version.tags.get(PROMOTION)
    described = HEADING in text or (text.strip() and LINEAGE not in text)
    if described and verdict in VERDICTS and version.tags.get(ORIGIN) == origin(model):
        return False
    kept = verdict if verdict and verdict in VERDICTS else decision.verdict
    describe_decision(records, version, model, evaluation, decision, kept)
    return True


def origin(model: Node) -> str:
    """Return what the tag of a version's origin says."""
    return f"{model.asset}/{model.digest}"


def describe_decision(
    records: Records, version: "ModelVersion", model: Node, evaluation: str, decision: Decision, verdict: str = ""
) -> None:
    """Write a decision to its version's tags and description; `verdict` stands in the tag in place of its own.

    `evaluation` is the digest of the evaluation behind the decision. The model's asset and digest are written too, so
    that the version's origin stays known after its run has been deleted.
    """
    facts = {"metric": decision.metric, "against": decision.against, "evaluation": evaluation}
    counts = ("cases", "conversations")
    facts |= {name: f"{value:,.0f}" if name in counts else shown(value) for name, value in decision.figures().items()}
    tags = {ORIGIN: origin(model), PROMOTION: verdict or decision.verdict}
    write_decision(records, version, tags, f"{decision.reason}\n\n{table(['', ''], facts.items())}")


def write_decision(records: Records, version: "ModelVersion", tags: Mapping[str, str], text: str) -> None:
    """Write the tags of a decision, and its text into the version's description, in place of an earlier decision."""
    client, name, number = records.registry, version.name, str(version.version)
    for key in version.tags.keys() - tags.keys():
        if key.startswith(PROMOTION):
            client.delete_model_version_tag(name, number, key)
    for key, value in tags.items():
        client.set_model_version_tag(name, number, key, value)
    description = (version.description or "").partition(HEADING)[0].rstrip()
    client.update_model_version(name, number, f"{description}\n\n{HEADING}\n\n{text.rstrip()}\n".lstrip())


def promote(records: Records, name: str, which: str, pin: bool, who: str, why: str) -> str:
    """Make a version the champion by hand, or back again; return its number.

    `which` is a number or an alias. With `pin` no later decision moves the alias; without, an earlier pin is removed,
    and a version that is registered later may take the place. Who did it and why are written to the version before the
    alias moves. Raises PipelineError if there is no such version.
    """
    version = records.version(name, which)
    client, number = records.registry, str(version.version)
    before = champion(records, name)
    reason = (
        f"Version {number} was promoted by hand by {who}{', and pinned' if pin else ''}: {why or 'no reason given'}"
    )
    against = f"version {before.version} was champion" if before else "there was no champion"
    again = (
        before is not None and str(before.version) == number and f"{reason}. Before, " in (version.description or "")
    )
    # A repeated command, as after a kill, keeps what the first one wrote of the champion before.
    if not again or version.tags.get(PROMOTION) != BY_HAND:
        write_decision(records, version, {PROMOTION: BY_HAND}, f"{reason}. Before, {against}.")
    if pin:
        client.set_registered_model_tag(name, PINNED, number)
    elif pinned(records, name):
        client.delete_registered_model_tag(name, PINNED)
    if not before or str(before.version) != number:
        newest = max(int(each.version) for each in records.versions(name))
        client.set_registered_model_tag(name, CHOSEN, f"{number}/{newest}")
    client.set_registered_model_alias(name, CHAMPION, number)
    return number


def passed_over(records: Records, version: "ModelVersion", champion: "ModelVersion | None") -> bool:
    """Return whether a person has chosen the champion when this version was there.

    By `promote`; or by moving the alias in MLflow from this version, which had become champion, to an older one, which
    no decision does.
    """
    if champion is None:
        return False
    chosen, _, newest = records.registry.get_registered_model(version.name).tags.get(CHOSEN, "").partition("/")
    if chosen == str(champion.version) and newest.isdecimal() and int(version.version) <= int(newest):
        return True
    was_champion = version.tags.get(PROMOTION) in ("promoted", "champion already", "passed over")
    return was_champion and int(champion.version) < int(version.version)


def pinned(records: Records, name: str) -> str | None:
    """Return the number of the version that is pinned as champion, or None."""
    number = records.registry.get_registered_model(name).tags.get(PINNED)
    found = champion(records, name)
    # A pin counts as long as its version is champion: the alias may have been moved in MLflow since.
    return str(number) if number and found and str(found.version) == str(number) else None
