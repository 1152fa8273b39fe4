"""Describe what changed between two runs: settings, inputs, code, counts and figures, from MLflow alone."""

from collections.abc import Iterator, Mapping

from adc_pipeline.core.markdown import Markdown, code, escape, table
from adc_pipeline.evaluation.formatting import NONE, interval, number
from adc_pipeline.tracking.node import Node

# The figures of an evaluation that are shown, each with its interval.
FIGURES = (
    "preference_accuracy",
    "steering",
    "in_context_improvement",
    "verdict_calibration.brier",
    "bits_per_byte.accepted",
)
# Counts that depend on the machine and its load.
MACHINE_COUNTS = {"seconds", "tokens_per_second", "memory_bytes", "processes"}
# Characters of a setting that are shown.
LONGEST_SETTING = 200

Row = tuple[str, str, str, str]  # artefact, what differs, before, now


def what_changed(old: Node, new: Node, since: str) -> str:
    """Return Markdown on the differences between two lineage trees of one asset; `since` names the old one."""
    before, now = ({node.asset: node for node in tree.walk()} for tree in (old, new))
    # Upstream first.
    assets = list(dict.fromkeys([*reversed(list(now)), *reversed(list(before))]))
    rows = [row for asset in assets for row in artefact_rows(asset, before.get(asset), now.get(asset))]
    text = f"### What changed since {escape(since)}\n\n"
    text += (
        table(["artefact", "", "before", "now"], rows)
        if rows
        else "Nothing: the same settings, inputs and code gave the same artefacts.\n"
    )
    figures = [
        (name, figure(name, old.metrics), figure(name, new.metrics))
        for name in FIGURES
        if name in old.metrics or name in new.metrics
    ]
    return text + ("\n" + table(["figure", "before", "now"], figures) if figures else "")


def artefact_rows(asset: str, old: Node | None, new: Node | None) -> Iterator[Row]:
    """Yield a row for each difference of an artefact."""
    if old is None or new is None:
        yield asset, "exists", "no" if old is None else "yes", "no" if new is None else "yes"
        return
    if old.digest != new.digest:
        yield asset, "digest", code(old.digest[:12]), code(new.digest[:12])
    version = "adc.code_version"
    if old.tags.get(version) != new.tags.get(version):
        yield asset, "code", value(old.tags.get(version)), value(new.tags.get(version))
    for name in sorted(old.settings.keys() | new.settings.keys()):
        if old.settings.get(name) != new.settings.get(name):
            yield asset, Markdown(f"setting {code(name)}"), value(old.settings.get(name)), value(new.settings.get(name))
    for name in sorted((old.counts.keys() | new.counts.keys()) - MACHINE_COUNTS):
        ours, theirs = old.counts.get(name), new.counts.get(name)
        if ours != theirs:
            change = "" if ours is None or theirs is None else f" ({theirs - ours:+,.6g})"
            yield asset, f"count {name}", count(ours), count(theirs) + change


def figure(name: str, metrics: Mapping[str, float]) -> str:
    """Return a figure of an evaluation's metrics with its interval, if it has one."""
    low, high = metrics.get(f"{name}.low"), metrics.get(f"{name}.high")
    bounds = "" if low is None or high is None else f" {interval(low, high)}"
    return number(metrics.get(name)) + bounds


def value(setting: str | None) -> str:
    return NONE if setting is None else code(setting[:LONGEST_SETTING])


def count(number: float | None) -> str:
    return NONE if number is None else f"{number:,.6g}"
