"""Directive that lists the errors of the package from its code: what each says, when it comes, and what to do.

    ```{adc-errors} corpus ranking walks
    ```

The arguments are folders and modules of the package. A sentence is the text of a `PipelineError` in the syntax tree, or
of a function `problems_of_NAME`, which returns sentences; what depends on the case is shown as …. Most sentences end in
their remedy, and `REMEDIES` has that of the others. When an error comes is what the docstring of its function says. A
sentence without a remedy, a remedy whose sentence is gone, and an error that no directive lists fail the build, so that
code and page stay together.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adc_reference import load, table
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

PACKAGE = Path(__file__).parents[2] / "adc_pipeline"
# Functions that return sentences, of which their caller makes one error.
PROBLEMS = "problems_of_"
ERRORS = {"PipelineError", "UnreachableError", "LostRecordsError"}
GAP = "…"
# Sentences whose remedy is known when they are raised, or goes without saying in them.
REMEDIES = {
    "…, which the setting … names, ….": "the message ends in it: correct the path, or give this user access",
    "…, in the folder that the setting corpus names, ….": "the message ends in it; or move the file away",
    "The folder …, which the setting corpus names, ….": "the message ends in it: give this user access",
    "The removal list ….": "the message ends in it; or write an empty file if nobody is to be removed",
    "The corpus ….": "the message ends in it: give this user access",
    "….": "the message says which values the setting accepts; see the reference of settings",
    "… has no setting ….": "correct the name; the message has the nearest one, the reference of settings has all",
    "… is no part of a run configuration….": "correct the name, or put it where the message says that it belongs",
    "… is no asset….": "correct the name; the message has the nearest one, the reference of settings has all",
    "… is no resource….": "correct the name; the message has the nearest one, the reference of settings has all",
    "…: …": "as the message says, in the settings of the asset that it begins with",
    "`…` takes its value from the environment variable …, which is not set.": "set the variable, or give the value",
    "… Materializing … registers a version that is gone again.": "materialize the model, then its champion",
    "… has ended (exit status …): see ….": "read the end of that log",
    "A database of Dagster in DAGSTER_HOME = ….": (
        "the message ends in it: make room, end what locks it, or run `adc repair` for one that is damaged"
    ),
    "… could not be made; see ….log.": "read the end of that log",
    "The servers have not started in … s: see ….": "read the end of that log; end other work on this machine",
    "`accelerate_config` …: …": "the message ends in it; `accelerate config` writes such a file",
    "The training in … cannot go on …, and run it again to resume from the last checkpoint.": (
        "the message has what the system answered, and what to do"
    ),
    "The training ran out of memory; ….": "the message names the setting to lower; the next run resumes",
    "The training process was killed, as Linux does when the machine has no memory left; ….": (
        "the message names the setting to lower; the next run resumes"
    ),
    "The MLflow database at … cannot be used (…): ….": "restore it from a backup, or move it away to begin a new one",
    "The database ….": "the message ends in it: move away what has its name, or give a regular file",
    "ADC_HOME = ….": "the message ends in it: point ADC_HOME to a folder",
    "… is damaged, or another program wrote it (…): ….": (
        "remove it with the cell's other file, and the cell is exported or made again"
    ),
    "… was altered after the cell was exported: ….": "remove it with the cell's other file, or restore both",
    "… holds no cases of a cell (…): ….": "remove it with the cell's other file, or restore both",
    "… has cases whose values are not finite: ….": "remove it with the cell's other file, or restore both",
    "There is no walk: of … utterances, … are set aside, and the others are no replies: ….": (
        "the message ends in it, by the commonest reason"
    ),
    "There is no walk: all … replies to the … roots are dropped (…), most of them …: ….": (
        "the message names the filter that dropped most of them"
    ),
}
# Functions that raise a sentence made elsewhere, which is listed there.
REPEATED = {
    "cli/repair:fault",
    "corpus/source:list_all",
    "defs/look_ahead:check_values",
    "training/launching/process:error",
    "lifecycle/messages:send",
    "tracking/database:explained",
    "tracking/failures:explanation",
    "tracking/lineage:version",
}
WHEN = re.compile(r"(?:[Rr]aises?|or|;|,|\.) PipelineError (?:is raised )?((?:if|for|unless|where|with) [^.;]+)")


@dataclass(frozen=True)
class Error:
    """An error in the code: its module below the package, its function, when it is raised, and its sentence."""

    module: str
    function: str
    when: str
    sentence: str

    @property
    def remedy(self) -> str:
        """What to do; empty if nothing says so."""
        return REMEDIES.get(self.sentence) or divided(self.sentence)[1]


def errors(package: Path = PACKAGE) -> Iterator[Error]:
    """Yield the errors that the package raises or returns, in the order of files and functions."""
    for path in sorted(package.rglob("*.py")):
        module = path.relative_to(package).with_suffix("").as_posix()
        yield from errors_in(ast.parse(path.read_text()), module, "", "")


def errors_in(node: ast.AST, module: str, function: str, when: str) -> Iterator[Error]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        found = WHEN.search(" ".join((ast.get_docstring(node) or "").split()))
        function, when = node.name, found[1] if found else ""
    if isinstance(node, ast.JoinedStr) and function.startswith(PROBLEMS) and text_of(node).endswith("."):
        yield Error(module, function, when, text_of(node))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS and node.args:
        yield Error(module, function, when, text_of(node.args[0]))
    for child in ast.iter_child_nodes(node):
        yield from errors_in(child, module, function, when)


def text_of(node: ast.expr) -> str:
    """Return a string expression with gaps for what is known only when it is evaluated."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return re.sub(rf"{GAP}(\s*{GAP})+", GAP, "".join(map(text_of, node.values)))
    return GAP


def divided(sentence: str) -> tuple[str, str]:
    """Return what is wrong and what to do; the second is empty if the sentence does not say."""
    text = sentence.rstrip(".")
    for between in ("; ", ": ", ". "):
        for place in reversed([found.start() for found in re.finditer(re.escape(between), text)]):
            remedy = text[place + len(between) :]
            if len(re.findall(r"[A-Za-z]{2,}", remedy)) > 1:
                return text[:place], remedy
    return sentence, ""


def listed(package: Path = PACKAGE) -> list[Error]:
    """Return the errors that have a sentence of their own; raise ExtensionError where code and tables do not agree."""
    found = list(errors(package))
    repeated = {f"{each.module}:{each.function}" for each in found if each.sentence == GAP}
    sentences = {each.sentence for each in found}
    problems = [f"{place} raises a sentence that is not in the code" for place in sorted(repeated - REPEATED)]
    problems += [f"{place} raises no sentence from elsewhere any more" for place in sorted(REPEATED - repeated)]
    problems += [f"REMEDIES has {gone!r}, which no error says" for gone in REMEDIES.keys() - sentences]
    own = [each for each in found if each.sentence != GAP]
    problems += [f"{each.module}: {each.sentence!r} says no remedy" for each in own if not each.remedy]
    if problems:
        raise ExtensionError("; ".join(problems) + ". See docs/_extensions/adc_errors.py.")
    return own


def databases() -> list[list[str]]:
    """Return the rows of what SQLite reports of MLflow's database."""
    found: Mapping[str, tuple[str, str]] = load("adc_pipeline.tracking.database.SENTENCES")
    return [[f"The MLflow database {GAP} {what}", "", remedy] for what, remedy in found.values()]


class Errors(SphinxDirective):
    """A table of the errors of some folders and modules of the package."""

    required_arguments = 1
    optional_arguments = 9
    has_content = False

    def run(self) -> list[nodes.Node]:
        rows = []
        for each in dict.fromkeys(listed()):
            if within(each, self.arguments):
                rows.append([divided(each.sentence)[0], each.when, each.remedy])
        if not rows:
            raise self.error(f"There is no error in {', '.join(self.arguments)}.")
        if "tracking" in self.arguments:
            rows += databases()
        return [table(["message", "comes", "what to do"], unique(rows), [45, 25, 30])]


def within(error: Error, places: list[str]) -> bool:
    return any(error.module == place or error.module.startswith(f"{place}/") for place in places)


def unique(rows: list[list[str]]) -> list[list[str]]:
    """Return rows without repeats."""
    return [list(row) for row in dict.fromkeys(map(tuple, rows))]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("adc-errors", Errors)
    return {"version": "1", "parallel_read_safe": True}
