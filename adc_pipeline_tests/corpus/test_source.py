"""Where corpora come from, and what is refused before anything is made of it."""

import json
import os
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import scan
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.corpus.opening.recorded_files import check_unchanged, record_files
from adc_pipeline.corpus.parts import read_record
from adc_pipeline.corpus.settings import CorpusSettings, UtteranceSettings
from adc_pipeline.corpus.source import check_source, convokit_names, fetch, is_path, sources
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.defs.assets.corpus import make_raw_corpus

LINES: list[dict[str, object]] = [
    {"id": "r", "conversation_id": "r", "reply_to": None, "speaker": "ann", "text": "post", "timestamp": 1},
    {"id": "a", "conversation_id": "r", "reply_to": "r", "speaker": "bob", "text": "yes", "timestamp": 2,
     "meta": {"score": 3}},
]  # fmt: skip


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "utterances.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    (folder / "conversations.json").write_text(json.dumps({"r": {"meta": {"title": "hello"}}}))
    (folder / "index.json").write_text(json.dumps({"version": 1}))
    return folder


def zipped(corpus: Path, archive: Path, prefix: str = "some-corpus/") -> Path:
    with zipfile.ZipFile(archive, "w") as content:
        for path in corpus.iterdir():
            content.write(path, prefix + path.name)
    return archive


def test_a_folder_is_linked_and_a_change_of_it_is_noticed(corpus: Path, tmp_path: Path) -> None:
    fetch(CorpusSettings(str(corpus)), {}, tmp_path / "linked")
    digest = record_files(tmp_path / "linked", tmp_path / "files.json")
    check_unchanged(tmp_path / "linked", tmp_path / "files.json")
    (corpus / "utterances.jsonl").write_text("")
    assert record_files(tmp_path / "linked", tmp_path / "later.json") != digest
    with pytest.raises(PipelineError, match="materialize the asset raw_corpus again"):
        check_unchanged(tmp_path / "linked", tmp_path / "files.json")


def test_a_linked_file_is_read_again_only_if_size_or_times_differ(tmp_path: Path) -> None:
    folder = tmp_path / "dumped"
    folder.mkdir()
    kept = dump(folder / "RC_2018-09", body="yes", link_id="t3_r", parent_id="t3_r")
    settings = CorpusSettings(str(folder))
    (tmp_path / "first").mkdir()
    fetch(settings, {}, tmp_path / "first" / "corpus")
    record = tmp_path / "first" / "files.json"
    record_files(tmp_path / "first" / "corpus", record)
    before = json.loads(record.read_text())["00"]
    record.write_text(json.dumps({"00": before | {"sha256": "recorded"}}))
    # One more before it, so that it has another name among the parts.
    dump(folder / "RC_2018-08", body="no", link_id="t3_r", parent_id="t3_r")
    fetch(settings, {}, tmp_path / "later")

    def hashed() -> str:
        record_files(tmp_path / "later", tmp_path / "files.json", tmp_path / "first" / "corpus")
        return str(json.loads((tmp_path / "files.json").read_text())["01"]["sha256"])

    assert hashed() == "recorded"
    kept.chmod(0o600)
    assert hashed() == before["sha256"]
    # The same size and modification time, other content.
    stat = kept.stat()
    kept.write_text(kept.read_text().replace("yes", "not"))
    os.utime(kept, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert hashed() not in ("recorded", before["sha256"])


@pytest.mark.parametrize("content", ["another hash", '{"00": 5}', ""])
def test_nothing_is_taken_over_from_a_damaged_record_of_the_last_version(tmp_path: Path, content: str) -> None:
    file = dump(tmp_path / "RC_2018-09", body="yes", link_id="t3_r", parent_id="t3_r")
    store = Store(tmp_path / "home")

    def make() -> Artefact:
        with store.aside("raw_corpus") as folder:
            making = SimpleNamespace(settings=CorpusSettings(str(file)), store=store, folder=folder, report=print)
            making.count, making.found, making.metadata = print, {}, {}
            make_raw_corpus(making)  # type: ignore[arg-type]
            return store.put(folder, Artefact("raw_corpus", folder, making.digest, files=scan(folder)))

    made = make()
    record = made.path / "files.json"
    entry = json.loads(record.read_text())["00"]
    # The file itself has not changed.
    record.write_text(json.dumps({"00": entry | {"sha256": "other"}}) if content == "another hash" else content)
    assert make().digest == made.digest
    assert json.loads(record.read_text())["00"] == entry


def test_a_linked_file_of_the_same_size_and_time_is_compared_by_content(tmp_path: Path) -> None:
    file = dump(tmp_path / "RC_2018-09", body="yes", link_id="t3_r", parent_id="t3_r")
    fetch(CorpusSettings(str(file)), {}, tmp_path / "linked")
    record_files(tmp_path / "linked", tmp_path / "files.json")
    file.chmod(0o600)
    check_unchanged(tmp_path / "linked", tmp_path / "files.json")
    stat, content = file.stat(), file.read_text().replace("yes", "not")
    other = file.with_name("other")
    other.write_text(content)
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(file)
    with pytest.raises(PipelineError, match="has changed since the corpus was recorded"):
        check_unchanged(tmp_path / "linked", tmp_path / "files.json")


def test_a_list_longer_than_any_file_name_is_a_list() -> None:
    many = [f"subreddit-{number:03}" for number in range(30)]
    assert convokit_names(CorpusSettings(",".join(many))) == many
    check_source(CorpusSettings(",".join([*many, "x" * 300])))
    assert is_path("~nobody-of-this-name/corpus")
    with pytest.raises(PipelineError, match="does not exist"):
        check_source(CorpusSettings("~nobody-of-this-name/corpus"))


@pytest.mark.parametrize("prefix", ["", "some-corpus/", "some/deeper/"])
def test_a_zip_is_unpacked_wherever_the_corpus_lies_in_it(corpus: Path, tmp_path: Path, prefix: str) -> None:
    archive = zipped(corpus, tmp_path / "corpus.zip", prefix)
    check_source(CorpusSettings(str(archive)))
    fetch(CorpusSettings(str(archive)), {}, tmp_path / "unpacked")
    assert (tmp_path / "unpacked" / "00" / "utterances.jsonl").read_bytes() == (
        corpus / "utterances.jsonl"
    ).read_bytes()
    assert [path.name for path in (tmp_path / "unpacked").iterdir()] == ["00"]


def test_a_zip_that_would_leave_its_folder_is_refused(corpus: Path, tmp_path: Path) -> None:
    archive = zipped(corpus, tmp_path / "corpus.zip", "../outside/")
    with pytest.raises(PipelineError, match="outside its folder"):
        fetch(CorpusSettings(str(archive)), {}, tmp_path / "unpacked")
    assert not list(tmp_path.rglob("outside*"))


def test_a_zip_cut_off_is_refused(corpus: Path, tmp_path: Path) -> None:
    archive = zipped(corpus, tmp_path / "corpus.zip")
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(PipelineError, match="damaged or incomplete"):
        check_source(CorpusSettings(str(archive)))


def dump(path: Path, **columns: object) -> Path:
    path.write_text(json.dumps({"id": "r", "created_utc": 1} | columns) + "\n")
    return path


@pytest.fixture
def dumped(tmp_path: Path) -> Path:
    """A folder of dumps whose names say nothing of their order."""
    folder = tmp_path / "dumped"
    (folder / "later").mkdir(parents=True)
    dump(folder / "a.jsonl", body="yes", link_id="t3_r", parent_id="t3_r")
    dump(folder / "z.ndjson", title="post", selftext="")
    dump(folder / "later" / "RS_2018-10", title="post", selftext="")
    (folder / "table.csv").write_text("id,conversation_id,reply_to,text,score\n")
    (folder / "README.txt").write_text("where it is from")
    (folder / ".hidden.zst").write_text("")
    return folder


def test_a_folder_of_dumps_is_one_part_a_file_with_submissions_before_comments(dumped: Path, tmp_path: Path) -> None:
    said: list[str] = []
    check_source(CorpusSettings(str(dumped)))
    fetch(CorpusSettings(str(dumped)), {}, tmp_path / "out", said.append)
    parts = sorted((tmp_path / "out").iterdir())
    assert [part.name for part in parts] == ["00", "01", "02", "03"]
    assert [part.resolve().name for part in parts] == ["RS_2018-10", "z.ndjson", "a.jsonl", "table.csv"]
    assert said == [
        "dumped/.hidden.zst is left out: it is hidden",
        "dumped/README.txt is left out: it is neither JSON lines nor a Parquet or CSV file",
    ]
    assert [line.split(" ")[0] for line in said] == list(read_record(tmp_path / "out")["left_out"])


def test_several_sources_are_parts_in_the_order_given(corpus: Path, dumped: Path, tmp_path: Path) -> None:
    archive = zipped(corpus, tmp_path / "corpus.zip")
    settings = CorpusSettings(f"{dumped / 'a.jsonl'}, sample ,{archive},{corpus}", sample_conversations=3)
    check_source(settings)
    fetch(settings, {}, tmp_path / "out")
    assert [part.is_dir() for part in sorted((tmp_path / "out").iterdir())] == [False, True, True, True]
    assert [part.is_symlink() for part in sorted((tmp_path / "out").iterdir())] == [True, False, False, True]


def test_a_path_with_a_comma_is_one_path(corpus: Path, tmp_path: Path) -> None:
    renamed = corpus.rename(tmp_path / "this, that")
    assert sources(str(renamed)) == [str(renamed)]
    assert sources("sample, some-corpus") == ["sample", "some-corpus"]


@pytest.mark.parametrize("corpus", ["", " , ", "sample,sample"])
def test_a_source_named_twice_or_not_at_all_is_refused(corpus: str) -> None:
    with pytest.raises(PipelineError, match="name each source once"):
        sources(corpus)


def test_more_parts_than_a_hundred_stay_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(101):
        dump(folder / f"{number:03}.jsonl", title="post", selftext="")
    fetch(CorpusSettings(str(folder)), {}, tmp_path / "out")
    parts = sorted((tmp_path / "out").iterdir())
    assert [part.resolve().stem for part in parts] == [f"{number:03}" for number in range(101)]


def test_the_digest_is_the_same_wherever_the_corpus_lies(dumped: Path, corpus: Path, tmp_path: Path) -> None:
    digests = set()
    for place in ("here", "there"):
        moved = [shutil.copytree(folder, tmp_path / place / folder.name) for folder in (dumped, corpus)]
        out = tmp_path / place / "out"
        fetch(CorpusSettings(",".join(map(str, moved))), {}, out)
        digests.add(record_files(out, tmp_path / place / "files.json"))
        check_unchanged(out, tmp_path / place / "files.json")
    assert len(digests) == 1
    assert list(json.loads((tmp_path / "here" / "files.json").read_text()))[3:5] == ["03", "04/conversations.json"]
    dump(tmp_path / "here" / "dumped" / "a.jsonl", body="no", link_id="t3_r")
    with pytest.raises(PipelineError, match="has changed"):
        check_unchanged(tmp_path / "here" / "out", tmp_path / "here" / "files.json")


@pytest.mark.parametrize("content", ["", "just text", "PK"])
def test_a_file_in_a_folder_that_cannot_be_read_is_refused_by_name(dumped: Path, content: str) -> None:
    (dumped / "odd.jsonl").write_text(content)
    with pytest.raises(PipelineError, match=r"odd\.jsonl"):
        check_source(CorpusSettings(str(dumped)))


def test_a_table_without_its_columns_is_refused_before_anything_is_made(dumped: Path) -> None:
    with pytest.raises(PipelineError, match="has no column body"):
        check_source(CorpusSettings(str(dumped / "table.csv"), columns={"text": "body"}))


def test_the_setting_format_overrides_what_a_folder_looks_like(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="without utterances"):
        check_source(CorpusSettings(str(tmp_path), format="convokit"))
    fetch(CorpusSettings(str(corpus), format="dump"), {}, tmp_path / "out")
    assert (tmp_path / "out" / "00").resolve() == corpus / "utterances.jsonl"


@pytest.mark.parametrize("name", ["/nowhere/at/all", "./missing", "missing.zip", "~/not/there", "RC_2018-09.zst"])
def test_a_path_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(PipelineError, match="does not exist"):
        check_source(CorpusSettings(name))


def test_a_folder_that_is_no_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="neither a ConvoKit corpus"):
        check_source(CorpusSettings(str(tmp_path)))


@pytest.mark.parametrize("file", ["utterances.jsonl", "conversations.json"])
def test_a_file_cut_off_in_the_middle_is_refused(corpus: Path, tmp_path: Path, file: str) -> None:
    (corpus / file).write_bytes((corpus / file).read_bytes()[:-9])
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(PipelineError, match=r"fetch (it|the corpus) again"):
        write_utterances(corpus, out)
    assert list(out.iterdir()) == []


def test_a_last_line_without_a_newline_is_whole(corpus: Path, tmp_path: Path) -> None:
    lines = corpus / "utterances.jsonl"
    lines.write_bytes(lines.read_bytes().rstrip(b"\n"))
    assert write_utterances(corpus, tmp_path)["taking_part"] == 2


def test_more_set_aside_than_allowed_fails_with_the_reasons(corpus: Path, tmp_path: Path) -> None:
    with (corpus / "utterances.jsonl").open("a") as file:
        file.write(json.dumps(LINES[1] | {"id": "b", "reply_to": "gone"}) + "\n")
    with pytest.raises(PipelineError, match=r"1 of 3 .* \(1 missing_parent\).* max_set_aside"):
        write_utterances(corpus, tmp_path / "refused")
    counts = write_utterances(corpus, tmp_path / "allowed", UtteranceSettings(max_set_aside=0.5))
    assert counts["set_aside.missing_parent"] == 1


def test_an_empty_corpus_is_refused(corpus: Path, tmp_path: Path) -> None:
    (corpus / "utterances.jsonl").write_text("")
    with pytest.raises(PipelineError, match="no utterances"):
        write_utterances(corpus, tmp_path)


def test_a_file_that_two_sources_hold_is_refused(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(corpus / "utterances.jsonl")
    (tmp_path / "dumps").mkdir()
    dump(tmp_path / "dumps" / "RC_2018-09", body="yes", link_id="t3_r", parent_id="t3_r")
    (tmp_path / "copy").symlink_to("dumps")
    for named in ("dumps/RC_2018-09,dumps", "dumps,copy", "copy/RC_2018-09,dumps"):
        found = ",".join(str(tmp_path / name) for name in named.split(","))
        with pytest.raises(PipelineError, match=r"and both hold .*RC_2018-09: name each file once"):
            check_source(CorpusSettings(found))


def test_columns_that_nothing_is_mapped_by_are_refused(corpus: Path, tmp_path: Path) -> None:
    columns = {"score": "meta.ups"}
    with pytest.raises(PipelineError, match=r"maps score, and .* has no table that this applies to"):
        check_source(CorpusSettings(str(corpus), columns=columns))
    with pytest.raises(PipelineError, match="maps score, and sample has no table that this applies to"):
        check_source(CorpusSettings("sample", columns=columns))
    # Further columns are carried whatever the corpus is.
    check_source(CorpusSettings(str(corpus), columns={"ups": "ups"}))
