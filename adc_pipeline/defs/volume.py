"""The check `volume`: a rebuild whose count falls or grows sharply against the last version warns.

The asset's own step evaluates it, since a step of its own would write more events than the check is worth. Not
blocking, and no reason against a champion: only a person knows whether half a corpus is a fault.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.manifests import Artefact, differing
from adc_pipeline.defs.stage import Stage

NAME = "volume"


def volume_spec(stage: Stage[Any]) -> dg.AssetCheckSpec:
    """Return the check of a stage that declares a count for it."""
    return dg.AssetCheckSpec(
        NAME,
        asset=stage.name,
        description=f"The number `{stage.volume}` is near that of the last version (`volume_change` of `workspace`).",
    )


def last_version(store: Store, name: str) -> dict[str, Any]:
    """Return what is compared of the current version of an artefact, before a new one takes its place."""
    try:
        made = store.current(name)
    except PipelineError:
        return {}
    return {"counts": dict(made.counts), "settings": dict(made.settings)}


def volume_result(stage: Stage[Any], made: Artefact, last: Mapping[str, Any], limit: float) -> dg.AssetCheckResult:
    """Compare an artefact's count with that of the version before it; `last` is empty if nothing was rebuilt."""
    now, before = made.counts[stage.volume], last.get("counts", {}).get(stage.volume)
    change = (now - before) / before if before else 0.0
    passed = abs(change) <= limit
    said = ""
    if not passed:
        said = f"{stage.volume} of {stage.name} {'grew' if change > 0 else 'fell'} from {before:,.0f} to {now:,.0f}"
        said += f" ({change:+.0%})"
        if changed := differing(last.get("settings", {}), made.settings):
            said += f"; changed settings: {', '.join(changed)}"
        said += "."
    return dg.AssetCheckResult(
        passed=passed,
        check_name=NAME,
        severity=dg.AssetCheckSeverity.WARN,
        description=said or None,
        metadata={stage.volume: now} | ({"last": before} if before is not None else {}),
    )
