"""Files that the pipeline reads back after another process or a person may have changed them end with a sentence."""

import json
import os
import re
import shutil
import socket
from collections.abc import Callable
from contextlib import chdir, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adc_pipeline.cli.repair import check_artefacts
from adc_pipeline.core.errors import DamagedError, PipelineError
from adc_pipeline.core.named_files import FROM_KERNEL, SMALL_JSON, file_problem
from adc_pipeline.core.pictures import png
from adc_pipeline.core.records import LARGEST, fits, object_in, read_record, sealed
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import altered_files, damage, folder_digest, mark_damaged, scan
from adc_pipeline.core.store.links import locked
from adc_pipeline.core.store.manifests import MAKING, MANIFEST, Artefact, read_making, write_making
from adc_pipeline.core.terminal import without_controls
from adc_pipeline.corpus.files.download import VERSION, newest_download
from adc_pipeline.corpus.opening.recorded_files import check_unchanged, corpus_digest, read_files, recorded_links
from adc_pipeline.corpus.parts import left_out_lines, list_parts, recorded_archives
from adc_pipeline.corpus.parts import read_record as read_parts
from adc_pipeline.corpus.settings import CorpusSettings
from adc_pipeline.defs.making import Request
from adc_pipeline.defs.shown import read_shown, shown_digests, shown_pictures, write_shown
from adc_pipeline.evaluation.evaluation import Evaluation
from adc_pipeline.generation.registration import read_registered
from adc_pipeline.lifecycle.decision import Evaluated
from adc_pipeline.lifecycle.registry import evaluated
from adc_pipeline.lineage import changed_files, is_of_later_version, on_disk
from adc_pipeline.tracking.node import Node
from adc_pipeline.training.loop.checkpoint import claim, latest_layout
from adc_pipeline.training.loop.progress import cut_after
from adc_pipeline.training.texts.dataset import load_split
from adc_pipeline.training.texts.facts import ModelFacts
from adc_pipeline_tests.fuzz.stored import altered

DEEP = "[" * 200_000
WRONG = ["", "null", "[]", "7", '"text"', "{", DEEP, '{"a": 1}', "\ud800", "NaN", '{"model": 3}', '{"parts": []}']

READERS: dict[str, Callable[[Path], Any]] = {
    "registered.json": read_registered,
    "evaluation.json": Evaluation.read,
    "corpus/parts.json": lambda folder: read_parts(folder / "corpus" / "corpus"),
    "work/checkpoints/step-000000001/position.json": lambda folder: latest_layout(folder / "work"),
    "walks.json": load_split,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("content", WRONG)
def test_a_record_that_is_no_record_is_refused(name: str, content: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(PipelineError) as refused:
        READERS[name](tmp_path)
    sentence = str(refused.value)
    assert len(sentence.splitlines()) == 1
    assert sentence.endswith(".")
    assert str(tmp_path) in sentence


@pytest.mark.parametrize(
    ("old", "new"), [('"step": 5', '"step": 6'), ("0.25", "0.5"), ('"row": 64', '"row": 32'), ("checksum", "checksums")]
)
def test_a_valid_number_that_was_altered_is_noticed(old: str, new: str, tmp_path: Path) -> None:
    layout = {"row": 64, "rows_per_step": 2, "processes": 1}
    figures = {"step": 5, "tokens": 640, "seconds": 0.25, "figures": {}, "recent_losses": [1.0, 0.1 + 0.2]}
    path = tmp_path / "work/checkpoints/step-000000005/position.json"
    path.parent.mkdir(parents=True)
    path.write_text(sealed({**figures, "layout": layout}))
    read = READERS["work/checkpoints/step-000000001/position.json"]
    assert read(tmp_path).row == 64
    path.write_text(path.read_text().replace(old, new))
    if new == "checksums":
        # As an earlier version wrote it.
        assert read(tmp_path).row == 64
    else:
        with pytest.raises(PipelineError, match=r"its checksum differs\): remove .*step-000000005, and the next run"):
            read(tmp_path)


@pytest.mark.parametrize(
    "facts",
    [
        [],
        {"objective": 3},
        {"markers": "left"},
        {"markers": ["after"]},
        {"measures_without_meaning": "steering"},
        {"measures_without_meaning": [3]},
        {"train": []},
        {"train": {"sequence_length": "1024"}},
        {"train": {"sequence_length": 0}},
        {"speakers": None},
    ],
)
def test_a_training_json_of_another_program_is_refused(facts: Any, tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text(json.dumps(facts))
    with pytest.raises(PipelineError, match=r"training\.json .*: copy the whole folder of the model again\."):
        ModelFacts.read(tmp_path)


def test_the_facts_of_a_model_may_be_missing(tmp_path: Path) -> None:
    assert ModelFacts.read(tmp_path) == ModelFacts()
    (tmp_path / "training.json").write_text('{"markers": "before", "train": {}}')
    assert ModelFacts.read(tmp_path) == ModelFacts(markers="before")


def test_a_record_is_of_limited_size(tmp_path: Path) -> None:
    (tmp_path / "large.json").write_bytes(b" " * (SMALL_JSON + 1))
    with pytest.raises(DamagedError, match="larger than 16 MiB"):
        read_record(tmp_path / "large.json")


@pytest.mark.parametrize("content", ['{"00": 5}', '{"00": {"bytes": 1}}', '{"/etc/passwd": ENTRY}', '{"": ENTRY}'])
def test_a_record_of_files_with_other_values_is_refused(tmp_path: Path, content: str) -> None:
    entry = '{"bytes": 1, "modified_ns": 1, "sha256": "x"}'
    (tmp_path / "corpus").mkdir()
    for known in (entry, entry.replace("}", ', "changed_ns": 1}')):
        (tmp_path / "files.json").write_text(f'{{"00": {known}}}')
        assert list(read_files(tmp_path / "files.json")) == ["00"]
    (tmp_path / "files.json").write_text(content.replace("ENTRY", entry))
    with pytest.raises(DamagedError):
        check_unchanged(tmp_path / "corpus", tmp_path / "files.json")
    with pytest.raises(DamagedError):
        changed_files(tmp_path)
    assert recorded_links(tmp_path / "corpus") == {}


@pytest.mark.parametrize(
    "parts", ['{"00": true}', '{"00": {}}', '{"00": {"name": 3}}', '{"00": {"name": "x", "remote": 1}}']
)
def test_a_record_of_parts_with_other_values_is_refused(tmp_path: Path, parts: str) -> None:
    record = (
        '{"parts": PARTS, "left_out": {}, "links": {}, "lower_is_better": [], "higher_is_better": [], "archives": 5}'
    )
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "00").touch()
    (tmp_path / "parts.json").write_text(record.replace("PARTS", parts))
    with pytest.raises(DamagedError):
        list_parts(tmp_path / "corpus", CorpusSettings())
    with pytest.raises(DamagedError):
        corpus_digest(tmp_path / "corpus")
    (tmp_path / "parts.json").write_text(record.replace("PARTS", '{"00": {"name": "x"}}'))
    assert corpus_digest(tmp_path / "corpus")
    assert recorded_archives(tmp_path / "corpus") == {}


def test_a_value_of_another_type_in_a_manifest_makes_it_unreadable(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.aside("top_2") as folder:
        (folder / "data.txt").write_text("data")
        store.put(folder, Artefact("top_2", folder, "d1", files=scan(folder)))
    manifest = tmp_path / "store/top_2/d1/artefact.json"
    good = {key: value for key, value in json.loads(manifest.read_text()).items() if key != "checksum"}
    # Each sealed anew, as other code would write it.
    wrong: dict[str, Any] = {name: [3] for name in good}
    wrong |= {"counts": {"a": "7"}, "upstream_settings": {"raw_corpus": 3}, "inputs": {"utterances": None}}
    wrong |= {"files": {"data.txt": 3}, "unhashed": "README.md", "layout": "1", "place": "../top-2"}
    outside: list[tuple[str, Any]] = [
        ("files", {"a/../../b": {}}),
        ("files", {"a\0": {}}),
        ("inputs", {"utterances": "../../x"}),
    ]
    for name, value in [
        *wrong.items(),
        *outside,
        ("counts", {"a": [7]}),
        ("counts", {"a": True}),
        ("counts", {"a": None}),
    ]:
        manifest.write_text(sealed(good | {name: value}))
        with pytest.raises(PipelineError, match="cannot be read: materialize the asset top_2 again"):
            store.current("top_2")
    # Without a checksum, as a person would write it, who may have left out what later code reads.
    manifest.write_text(json.dumps(good))
    with pytest.raises(PipelineError, match="cannot be read: materialize the asset top_2 again"):
        store.current("top_2")
    manifest.write_text(sealed(good))
    made = store.current("top_2")
    nothing = {"run": "", "address": "", "outside": {}}
    for content in (*WRONG[1:], json.dumps(nothing | {"run": 3})):
        (made.path / MAKING).write_bytes(content.encode(errors="surrogatepass"))
        assert read_making(made) == nothing
    for value in ({"run": 3}, {"metrics": {"a": "7"}}, {"artifacts": {"report.html": 3}}, {"found": "csv"}):
        write_making(made, nothing | value)
        assert read_making(made) == nothing


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ({"a": 1, "b": 2.5}, dict[str, float], True),
        ({"a": 1, "b": "2.5"}, dict[str, float], False),
        ({"a": {"b": [1]}}, dict[str, dict[str, Any]], True),
        ({"a": [1]}, dict[str, dict[str, Any]], False),
        (["a", 1], list[str], False),
        (("a",), tuple[str, ...], True),
        (None, int | None, True),
        (True, int, False),
        (1.0, int, False),
    ],
)
def test_types_are_asked_for_what_is_inside_too(value: Any, kind: Any, expected: bool) -> None:
    assert fits(value, kind) is expected


def test_content_that_differs_under_the_same_size_and_time_is_found_and_then_noticed_by_every_use(
    tmp_path: Path,
) -> None:

    (tmp_path / "data.txt").write_text("data")
    made = Artefact("top_2", tmp_path, "d1", files=scan(tmp_path))
    stat = (tmp_path / "data.txt").stat()
    (tmp_path / "data.txt").write_text("date")
    os.utime(tmp_path / "data.txt", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert damage(made) == []
    assert mark_damaged(made) == ["data.txt"]
    assert damage(made) == ["data.txt"]


def test_lines_after_a_damaged_line_of_metrics_are_removed(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_bytes(b'{"step": 1}\n{"step": "2"}\n\xff\n{"step": 3}\n')
    cut_after(metrics, 3)
    assert metrics.read_text() == '{"step": 1}\n'


def test_what_others_wrote_into_mlflow_counts_as_nothing() -> None:
    assert [object_in(text) for text in (None, "", "no JSON", "[3]", DEEP, '{"a": 1}')] == [
        {},
        {},
        {},
        {},
        {},
        {"a": 1},
    ]


def test_a_record_of_files_and_of_a_version_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "files.json").write_text("[]")
    with pytest.raises(DamagedError, match="it is no JSON object"):
        check_unchanged(tmp_path / "corpus", tmp_path / "files.json")
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "utterances.jsonl").touch()
    (tmp_path / "small" / VERSION).write_text("two")
    assert newest_download("small", tmp_path) == (tmp_path / "small", None)


def test_a_file_that_the_kernel_writes_is_no_regular_file() -> None:
    assert file_problem(Path("/proc/version")) == FROM_KERNEL


def test_a_fifo_in_the_place_of_a_record_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / MANIFEST)
    assert folder_digest(tmp_path) == folder_digest(tmp_path)
    assert altered_files(tmp_path) == [MANIFEST]
    with locked(tmp_path / MANIFEST) as free:
        assert free
    with pytest.raises(DamagedError, match="is a FIFO"):
        read_record(tmp_path / MANIFEST)


def socket_at(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened, chdir(path.parent):
        opened.bind(path.name)


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, LARGEST + 1)


PUT: dict[str, Callable[[Path], Any]] = {
    "folder": lambda path: path.mkdir(),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "FIFO": os.mkfifo,
    "socket": socket_at,
    "loop": lambda path: path.symlink_to(path.name),
    "lost": lambda path: path.symlink_to("nowhere"),
    "no object": lambda path: path.write_text('{"files": [], "unhashed": 5, "shown": 3}'),
    "no entries": lambda path: path.write_text('{"files": {"a": 5}, "unhashed": [[1]]}'),
    "huge": huge,
}


@pytest.mark.parametrize("put", PUT.values(), ids=PUT)
def test_whatever_is_in_the_place_of_a_record_counts_as_damaged(tmp_path: Path, put: Callable[[Path], Any]) -> None:
    store = Store(tmp_path)
    folder = store.version_path("top_2", "0" * 32)
    folder.mkdir(parents=True)
    put(folder / MANIFEST)
    put(folder / MAKING)
    with pytest.raises(PipelineError, match="cannot be read: materialize the asset top_2 again"):
        store.version("top_2", "0" * 32)
    assert store.unreadable() == [folder]
    assert not list(store.versions())
    assert read_making(Artefact("top_2", folder, "0" * 32)) == {"run": "", "address": "", "outside": {}}
    assert altered_files(folder) == [MANIFEST, MAKING]
    assert len(folder_digest(folder)) == 32
    assert not is_of_later_version(folder)
    reported: list[str] = []
    assert check_artefacts(store, reported.append)
    assert reported[0].startswith(f"The manifest of {folder} cannot be read")


def test_a_missing_record_of_the_making_is_found(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(sealed({"layout": 1, "files": {}}))
    assert altered_files(tmp_path) == [MAKING]
    (tmp_path / MANIFEST).write_text("{}")
    assert altered_files(tmp_path) == []


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / MAKING).mkdir()
    with pytest.raises(PipelineError, match=r"making\.json is a folder where a file belongs: move it away\."):
        write_making(Artefact("top_2", tmp_path, "d1"), {})


def test_the_ids_of_millions_of_conversations_are_no_damage(tmp_path: Path) -> None:
    ids = {"conversation_ids": ["c" * 100] * 170_000, "counts": {}}
    (tmp_path / "walks.json").write_text(json.dumps(ids))
    assert (tmp_path / "walks.json").stat().st_size > SMALL_JSON
    for name in ("ids", "turn", "walk_start", "turn_start", "accepted", "score", "group", "given"):
        (tmp_path / f"{name}.bin").touch()
    assert len(load_split(tmp_path).conversation_ids) == 170_000


def test_what_is_shown_of_an_artefact_is_read_without_waiting_for_a_fifo(tmp_path: Path) -> None:
    (tmp_path / ".shown").mkdir()
    os.mkfifo(tmp_path / ".shown" / "shown.json")
    assert read_shown(tmp_path, {}, tmp_path) == {}
    assert shown_pictures(tmp_path, {}) == {}


def test_a_fifo_in_the_place_of_an_empty_file_keeps_nobody_waiting(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.aside("top_2") as folder:
        (folder / "empty").touch()
        made = store.put(folder, Artefact("top_2", folder, "0" * 32, files=scan(folder)))
    (made.path / "empty").unlink()
    os.mkfifo(made.path / "empty")
    assert damage(made) == ["empty"]


def test_what_is_shown_of_an_artefact_is_not_shown_once_it_is_altered(tmp_path: Path) -> None:
    import dagster as dg
    from matplotlib.figure import Figure

    write_shown(tmp_path, {"preview": dg.MetadataValue.md("a table"), "walks": 3}, {"headline": "x.png"}, tmp_path)
    (tmp_path / "x.png").write_bytes(png(Figure(figsize=(1, 1))))
    recorded = shown_digests(tmp_path)
    assert read_shown(tmp_path, recorded, tmp_path)["preview"].value == "a table"
    assert list(shown_pictures(tmp_path, recorded)) == ["headline"]
    file = tmp_path / ".shown" / "shown.json"
    file.write_text('{"values": {"preview": {"dagster": null}}, "pictures": {"headline": null}}')
    assert read_shown(tmp_path, recorded, tmp_path) == {}
    assert shown_pictures(tmp_path, recorded) == {}


def test_a_damaged_version_that_is_no_input_is_not_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.aside("raw_corpus") as folder:
        (folder / "parts.json").write_text("{}")
        corpus = store.put(folder, Artefact("raw_corpus", folder, "0" * 32, files=scan(folder)))
    inputs = {"utterances": Artefact("utterances", tmp_path, "1" * 32, inputs={"raw_corpus": corpus.digest})}
    request = SimpleNamespace(inputs=inputs, store=store, upstream_settings={"raw_corpus": {}})
    assert Request.upstream(request, "raw_corpus").digest == corpus.digest  # type: ignore[arg-type]
    (corpus.path / "parts.json").write_text('{"lower_is_better": []}')
    with pytest.raises(PipelineError, match="raw_corpus is damaged"):
        Request.upstream(request, "raw_corpus")  # type: ignore[arg-type]


def test_a_champion_whose_evaluation_was_altered_is_not_compared(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.aside("top_2_evaluation") as folder:
        (folder / "cases.parquet").write_text("cases")
        made = store.put(folder, Artefact("top_2_evaluation", folder, "2" * 32, files=scan(folder)))
    records = SimpleNamespace(
        above_version=lambda version: None, evaluations=lambda asset, model: [SimpleNamespace(digest=made.digest)]
    )

    def found() -> Evaluated:
        return evaluated(records, store, SimpleNamespace(version="3"), "top_2_evaluation")  # type: ignore[arg-type]

    assert found().evaluation == made.path
    (made.path / "cases.parquet").write_text("other")
    assert found().evaluation is None
    assert found().missing == f"cases.parquet of the evaluation {made.digest} of version 3 is missing or altered"


def test_a_file_whose_name_is_no_utf8_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.aside("top_2") as folder:
        made = store.put(folder, Artefact("top_2", folder, folder_digest(folder), files={"a": {}}))
    (made.path / os.fsdecode(b"b\xff.txt")).touch()
    node = Node("top_2", made.digest, None)
    message = without_controls(on_disk(node, store).message)
    assert message.startswith("CHANGED on disk")
    assert message.encode()
    reported: list[str] = []
    check_artefacts(store, reported.append)
    assert "holds files that do not belong to top_2 (b\\udcff.txt)" in reported[-1]
    assert without_controls(os.fsdecode(b"b\xff")).encode() == b"b\\udcff"


@pytest.mark.parametrize("name", ["fingerprint", "log.txt", "tokens/train/ids.bin", "checkpoints/step-000000001/x.pkl"])
def test_a_fifo_in_a_work_folder_of_a_training_is_named(tmp_path: Path, name: str) -> None:
    assert not claim(tmp_path / "new", "mark")
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    with pytest.raises(PipelineError, match=f"{path} is a FIFO and no regular file: remove {tmp_path}") as raised:
        claim(tmp_path, "mark")
    left = Path(re.findall(r"remove ([^,]*), and the next run", str(raised.value))[0])
    shutil.rmtree(left) if left.is_dir() else left.unlink()
    assert not claim(tmp_path, "mark")


EXAMPLES = 20
ENTRY = {"bytes": 1, "modified_ns": 1, "changed_ns": 1, "sha256": "x"}
FIGURE = {"value": 0.5, "low": 0.4, "high": 0.6, "cases": 9, "conversations": 5, "refused": ""}
# A valid record and what reads it, by the name of its file.
VALID: dict[str, tuple[dict[str, Any], Callable[[Path], Any]]] = {
    "files.json": (
        {"00": ENTRY, "01/utterances.jsonl": ENTRY},
        lambda folder: (recorded_links(folder / "corpus"), changed_files(folder), read_files(folder / "files.json")),
    ),
    "parts.json": (
        {
            "parts": {"00": {"name": "a", "source": "b"}, "01": {"name": "c", "source": "d", "remote": False}},
            "left_out": {"a": "b"},
            "links": {"a": "b"},
            "lower_is_better": ["a"],
            "higher_is_better": [],
            "archives": {"/a": ENTRY},
        },
        lambda folder: (
            *(recorded_archives(folder / "corpus"), left_out_lines(folder / "corpus")),
            *(corpus_digest(folder / "corpus"), list_parts(folder / "corpus", CorpusSettings())),
        ),
    ),
    "registered.json": (
        {"registered_model": "adc-top-2", "registered_version": 1, "logged_model_id": "m-1"},
        read_registered,
    ),
    "training.json": (
        {"objective": "mle", "markers": "after", "speakers": "names", "train": {"sequence_length": 256}},
        ModelFacts.read,
    ),
    "evaluation.json": (
        {"model": {"steering": FIGURE}, "base": {"steering": FIGURE}, "minus_base": {"steering": FIGURE}},
        Evaluation.read,
    ),
}


@pytest.mark.parametrize("name", VALID)
@given(data=st.data())
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_altered_record_is_read_or_refused_with_a_sentence(name: str, data: st.DataObject, tmp_path: Path) -> None:
    record, read = VALID[name]
    (tmp_path / "corpus").mkdir(exist_ok=True)
    for part in ("00", "01"):
        (tmp_path / "corpus" / part).write_text(
            '{"id": "a", "title": "b", "selftext": "c", "author": "d", "score": 1}\n'
        )
    (tmp_path / name).write_text(json.dumps(data.draw(altered(record))))
    with suppress(PipelineError):
        read(tmp_path)
