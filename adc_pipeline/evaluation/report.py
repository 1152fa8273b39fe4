"""Estimates as Markdown tables: every figure with its interval and with what it rests on."""

from collections.abc import Iterable, Mapping, Sequence

from adc_pipeline.evaluation.bootstrap import Estimate

CHANCE = {"preference_accuracy": "0.5", "steering": "0.5", "in_context_improvement": "0"}


def figure(estimate: Estimate | None) -> str:
    """`0.612 [0.580, 0.644]`; a dash where the measure does not exist."""
    if estimate is None:
        return "–"
    if estimate.value is None:
        return "no cases"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.4g} (one conversation)"
    return f"{estimate.value:.4g} [{estimate.low:.4g}, {estimate.high:.4g}]"


def escaped(text: str) -> str:
    """Text of a corpus inside one cell of a table."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\r", "").replace("\n", "<br>")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def estimates_table(columns: Mapping[str, Mapping[str, Estimate]], counted: Sequence[str]) -> str:
    """One row a measure, one column a model; chance beside them, and the cases of the columns `counted`."""
    measures = dict.fromkeys(name for column in counted for name in columns[column])
    header = ["measure", "chance", *columns]
    for column in counted:
        of = f" ({column})" if len(counted) > 1 else ""
        header += [f"cases{of}", f"conversations{of}"]
    rows = []
    for name in measures:
        row = [name, CHANCE.get(name.split(".")[0], "–")]
        row += [figure(estimates.get(name)) for estimates in columns.values()]
        for column in counted:
            estimate = columns[column][name]
            row += [f"{estimate.cases:,}", f"{estimate.conversations:,}"]
        rows.append(row)
    return table(header, rows)
