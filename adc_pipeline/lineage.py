"""Print the lineage of a model or an artefact: `python -m adc_pipeline.lineage models:/adc-top-2@champion`.

The tree from the model to the corpus lists each artefact's name, digest, settings, code version, MLflow run, Dagster
run and time. All of these come from MLflow, so the command works on any machine. Only `--check` reads the disk, to
recompute the digests (1 s per gigabyte). The command takes about 6 s, nearly all of it for importing MLflow.
"""

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from adc_pipeline.core.arguments import ArgumentParser
from adc_pipeline.core.errors import DamagedError, PipelineError
from adc_pipeline.core.records import object_in, record_text
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import altered_files, file_digest, folder_digest
from adc_pipeline.core.store.manifests import LAYOUT, MANIFEST, Key
from adc_pipeline.core.terminal import prepare_streams, show, without_controls
from adc_pipeline.tracking.address import SERVERS, accepted, sqlite_file
from adc_pipeline.tracking.failures import words
from adc_pipeline.tracking.lineage import Records
from adc_pipeline.tracking.node import Node
from adc_pipeline.tracking.runs import Tracking

PROGRAM = "python -m adc_pipeline.lineage"
WIDTH = 120


@dataclass(frozen=True)
class Found:
    """The state of an artefact on disk (`matches`, `changed`, `missing`, `unknown`) and a sentence about it."""

    state: str
    message: str


def parse(arguments: Sequence[str] | None, program: str = PROGRAM) -> argparse.Namespace:
    parser = ArgumentParser(
        prog=program,
        description="What a registered model was made from, or what was made from a corpus or any other artefact.",
    )
    parser.add_argument(
        "artefact",
        nargs="?",
        help="models:/NAME@ALIAS, models:/NAME/VERSION, or a digest (6 digits are enough; or ASSET/DIGEST)",
    )
    parser.add_argument(
        "--from", dest="start", metavar="DIGEST|ASSET", help="what was made from this, as from raw_corpus"
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument(
        "--check", action="store_true", help="recompute the digests of what is on disk; exit status 1 if any differs"
    )
    parser.add_argument(
        "--tracking-uri",
        action="append",
        metavar="URI",
        help="tracking server or database, instead of MLFLOW_TRACKING_URI; several are asked in turn, and the registry"
        " is the first one's",
    )
    given = parser.parse_args(arguments)
    if (given.artefact is None) == (given.start is None):
        parser.error("give either a model or digest, or --from DIGEST|ASSET")
    return given


def servers(addresses: Sequence[str], home: Path) -> list[Tracking]:
    """Return the tracking servers at `addresses`, or the pipeline's own; PipelineError if a database is missing."""
    trackings = [Tracking(accepted(address, "--tracking-uri")) for address in addresses]
    parts = [urlsplit(address) for address in addresses]
    secrets = {part.netloc.rpartition("@")[0] for part in parts if part.scheme in SERVERS}
    if len(secrets) > 1:
        raise PipelineError(
            "The servers given by `--tracking-uri` have different passwords, of which MLflow would send one to all:"
            " ask one server at a time."
        )
    trackings = trackings or [Tracking.from_environment(home)]
    for tracking in trackings:
        path = sqlite_file(tracking.uri)
        # A client would create an empty database.
        if path and not path.exists():
            raise PipelineError(
                f"There is no MLflow database {path}: point ADC_HOME, MLFLOW_TRACKING_URI or `--tracking-uri` to where"
                " the model was trained."
            )
    # The defaults would wait minutes for an unavailable server.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    return trackings


def wanted(records: Records, artefact: str | None, start: str | None) -> list[Node]:
    """Return the requested trees: one upstream of `artefact`, or one downstream of each artefact that `start` names."""
    if start is not None:
        return records.below(start)
    address = artefact or ""
    if not address.startswith("models:/"):
        return [records.above(address)]
    name = address.removeprefix("models:/")
    model, _, which = name.partition("@") if "@" in name else name.partition("/")
    if not model or not which or "/" in which:
        raise PipelineError(f"{address!r} names no model version: write models:/NAME@ALIAS or models:/NAME/VERSION.")
    return [records.above_version(records.version(model, which))]


def on_disk(node: Node, store: Store) -> Found:
    """Compare an artefact's digest with its files, in the store or at the location where it was made."""
    recorded = urlsplit(node.path)
    places = [store.version_path(node.asset, node.digest)] if node.digest else []
    places += [Path(unquote(recorded.path))] if recorded.scheme == "file" else []
    path = next((place for place in places if place.is_dir()), None)
    if path is None:
        return Found("missing", f"not on disk (looked in {' and '.join(map(str, dict.fromkeys(places)))})")
    try:
        if is_of_later_version(path):
            return Found("unknown", f"made by a later version of this package, which can check what is in {path}")
        digest = content_digest(node.asset, path)
        altered = altered_files(path) if digest == node.digest else []
    except OSError as error:
        return Found("changed", f"CHANGED on disk: {error.filename} cannot be read ({error.strerror})")
    except DamagedError as error:
        return Found("changed", f"CHANGED on disk: {error}")
    if digest == node.digest:
        if altered:
            return Found("changed", f"CHANGED on disk: {', '.join(altered[:5])} in {path} is not what was recorded")
        return Found("matches", f"matches what is in {path}")
    return Found("changed", f"CHANGED on disk: what is in {path} now has the digest {digest}{changed_files(path)}")


def is_of_later_version(path: Path) -> bool:
    """Return whether the layout of an artefact is one that this version of the package does not know."""
    try:
        layout = object_in(record_text(path / MANIFEST)).get("layout", 0)
    except (OSError, ValueError):
        return False
    return isinstance(layout, int) and layout > LAYOUT


def content_digest(asset: str, path: Path) -> str:
    """Compute the current digest of an artefact's folder."""
    if asset != "raw_corpus":
        return folder_digest(path)
    from adc_pipeline.corpus.opening.recorded_files import corpus_digest

    # Not the folder digest: linked files are stored elsewhere, and only files that the pipeline reads count.
    return corpus_digest(path / "corpus")


def changed_files(path: Path) -> str:
    """Return a clause on the changed, missing or added files of a corpus; empty if its files are not recorded."""
    from adc_pipeline.corpus.opening.recorded_files import FILES, read_files

    if not (path / FILES).exists():
        return ""
    seen = read_files(path / FILES)
    other = [
        name
        for name, entry in seen.items()
        if not (path / "corpus" / name).is_file() or file_digest(path / "corpus" / name) != entry["sha256"]
    ]
    return f"; of its files, these are others or gone: {', '.join(other[:5])}" if other else "; a file was added"


def time_of(node: Node) -> str:
    return datetime.fromtimestamp(node.started / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if node.started else ""


def lines(node: Node, check: Callable[[Node], Found] | None) -> Iterator[str]:
    """Yield the tree as lines of text; a node that occurs again is not expanded again."""
    shown: set[Key] = set()

    def facts_of(node: Node, prefix: str) -> Iterator[str]:
        facts = [
            f"made {time_of(node)} by code {node.tags.get('adc.code_version', 'unknown')}" if node.run else "",
            f"MLflow run {node.run} at {node.server}" if node.run else "",
            f"Dagster run {node.tags['dagster.run_id']}" if "dagster.run_id" in node.tags else "",
            "settings: " + ", ".join(f"{key}={value}" for key, value in sorted(node.settings.items()))
            if node.settings
            else "",
            f"NOTE: {node.note}" if node.note else "",
            check(node).message if check else "",
        ]
        for fact in filter(None, facts):
            for line in textwrap.wrap(
                fact, max(40, WIDTH - len(prefix)), subsequent_indent="  ", break_on_hyphens=False
            ):
                yield prefix + line

    def tree(node: Node, first: str, rest: str) -> Iterator[str]:
        models = f" = {', '.join(node.models)}" if node.models else ""
        again = node.key in shown
        shown.add(node.key)
        yield f"{first}{node.asset} {node.digest}{models}{' (see above)' if again else ''}"
        if again:
            return
        below = node.inputs + node.outputs
        yield from facts_of(node, rest + ("│ " if below else "  "))
        for number, each in enumerate(below, 1):
            last = number == len(below)
            yield from tree(each, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))

    yield from tree(node, "", "")


def as_json(node: Node, check: Callable[[Node], Found] | None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "asset": node.asset,
        "digest": node.digest,
        "registered": list(node.models),
        "settings": node.settings,
        "counts": node.counts,
        "code_version": node.tags.get("adc.code_version"),
        "mlflow_run": node.run,
        "tracking_uri": node.server or None,
        "dagster_run": node.tags.get("dagster.run_id"),
        "time": datetime.fromtimestamp(node.started / 1000, UTC).isoformat() if node.started else None,
        "note": node.note or None,
    }
    if check:
        found = check(node)
        entry["on_disk"] = {"state": found.state, "said": found.message}
    entry["made_from"] = [as_json(each, check) for each in node.inputs]
    entry["made_into"] = [as_json(each, check) for each in node.outputs]
    return entry


def main(arguments: Sequence[str] | None = None, program: str = PROGRAM) -> int:
    """Run the command `program` and return its exit status; `arguments` default to those of the process."""
    given = parse(arguments, program)
    store = Store.from_environment()
    try:
        trees = ask(given, store)
    except PipelineError as error:
        print(error, file=sys.stderr)
        return 2
    known: dict[Key, Found] = {}

    def checked(node: Node) -> Found:
        if node.key not in known:
            known[node.key] = on_disk(node, store)
        return known[node.key]

    check = checked if given.check else None
    if given.json:
        entries = [as_json(tree, check) for tree in trees]
        print(json.dumps(entries if given.start is not None else entries[0], indent=1, allow_nan=False))
    else:
        print(without_controls("\n\n".join("\n".join(lines(tree, check)) for tree in trees)))
    if not check:
        return 0
    other = {key: found for key, found in known.items() if found.state != "matches"}
    if not given.json:
        print(f"\n{len(known) - len(other)} of {len(known)} artefacts are on disk and match their digests.")
        for (asset, digest), found in other.items():
            show(f"  {asset} {digest}: {found.message}")
    return 1 if other else 0


def ask(given: argparse.Namespace, store: Store) -> list[Node]:
    """Return the requested trees; raise PipelineError if MLflow is unavailable or has no such artefact."""
    asked = servers(given.tracking_uri or [], store.home)
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return wanted(Records([each.client() for each in asked]), given.artefact, given.start)
    except (MlflowException, SQLAlchemyError, ImportError) as error:
        reason = (
            "nothing answers" if "Max retries exceeded" in str(error) else words(error, [each.uri for each in asked])
        )
        raise PipelineError(
            f"MLflow at {', '.join(each.shown for each in asked)} could not be asked ({reason}): start it, or give"
            " another `--tracking-uri`."
        ) from None


if __name__ == "__main__":
    prepare_streams()
    sys.exit(main())
