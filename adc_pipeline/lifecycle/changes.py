"""What a run changed since the one before: settings, inputs, code, counts and figures, from MLflow alone."""

from collections.abc import Iterator

from adc_pipeline.tracking.lineage import Node

# Shown of an evaluation, each with its interval.
FIGURES = (
    "preference_accuracy",
    "steering",
    "in_context_improvement",
    "verdict_calibration.brier",
    "bits_per_byte.accepted",
)
# Counts that tell of the machine's day, not of the work.
OF_THE_DAY = {"seconds", "tokens_per_second", "memory_bytes", "processes"}


def what_changed(old: Node, new: Node, since: str) -> str:
    """Markdown on the differences between two trees of the same asset; `since` names the old one in the title."""
    before, now = ({node.asset: node for node in tree.walk()} for tree in (old, new))
    # From the corpus down, as it is made.
    assets = list(dict.fromkeys([*reversed(list(now)), *reversed(list(before))]))
    rows = [row for asset in assets for row in artefact_rows(asset, before.get(asset), now.get(asset))]
    text = f"### What changed since {since}\n\n"
    if rows:
        text += "| artefact | | before | now |\n| --- | --- | --- | --- |\n" + "".join(rows)
    else:
        text += "Nothing: the same settings, inputs and code gave the same artefacts.\n"
    figures = [row for name in FIGURES for row in figure_row(name, old, new)]
    if figures:
        text += "\n| figure | before | now |\n| --- | --- | --- |\n" + "".join(figures)
    return text


def artefact_rows(asset: str, old: Node | None, new: Node | None) -> Iterator[str]:
    """Rows of a table: what is different about one artefact."""
    if old is None or new is None:
        yield row(asset, "is there", "no" if old is None else "yes", "no" if new is None else "yes")
        return
    if old.digest != new.digest:
        yield row(asset, "digest", f"`{old.digest[:12]}`", f"`{new.digest[:12]}`")
    version = "adc.code_version"
    if old.tags.get(version) != new.tags.get(version):
        yield row(asset, "code", f"`{old.tags.get(version)}`", f"`{new.tags.get(version)}`")
    for name in sorted(old.settings.keys() | new.settings.keys()):
        if old.settings.get(name) != new.settings.get(name):
            yield row(asset, f"setting `{name}`", told(old.settings.get(name)), told(new.settings.get(name)))
    for name in sorted((old.counts.keys() | new.counts.keys()) - OF_THE_DAY):
        ours, theirs = old.counts.get(name), new.counts.get(name)
        if ours != theirs:
            change = "" if ours is None or theirs is None else f" ({theirs - ours:+,.6g})"
            yield row(asset, f"count {name}", counted(ours), counted(theirs) + change)


def figure_row(name: str, old: Node, new: Node) -> Iterator[str]:
    if name in old.metrics or name in new.metrics:
        yield f"| {name} | {with_interval(name, old)} | {with_interval(name, new)} |\n"


def with_interval(name: str, node: Node) -> str:
    if name not in node.metrics:
        return "–"
    low, high = (node.metrics.get(f"{name}.{bound}") for bound in ("low", "high"))
    interval = f" [{low:.4f}, {high:.4f}]" if low is not None and high is not None else ""
    return f"{node.metrics[name]:.4f}{interval}"


def row(asset: str, what: str, before: str, now: str) -> str:
    return f"| {asset} | {what} | {before} | {now} |\n"


def told(value: str | None) -> str:
    return "–" if value is None else f"`{value[:200]}`".replace("|", "\\|")


def counted(value: float | None) -> str:
    return "–" if value is None else f"{value:,.6g}"
