"""Of a folder all data is read, whatever it is called and wherever its links lead; nothing is passed over silently."""

import ast
import bz2
import gzip
import json
import lzma
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import zstandard

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.files.folders import Listing, list_data, watched_files
from adc_pipeline.corpus.readers.convokit import corpus_name, titles
from adc_pipeline.corpus.recognition.formats import Format
from adc_pipeline.corpus.settings import CorpusSettings
from adc_pipeline.corpus.source import check_source

POST = {"id": "p", "title": "why", "selftext": "", "subreddit": "s", "created_utc": 1, "score": 1}
COMMENT = {"id": "c", "link_id": "t3_p", "parent_id": "t3_p", "body": "yes", "created_utc": 2, "score": 1}


def lines(*records: object) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "dumps" / "RC_2020-01.jsonl", lines(COMMENT))
    write(tmp_path / "dumps" / "RS_2020-01.jsonl", lines(POST))
    return tmp_path / "dumps"


def found(folder: Path, wanted: Format = "auto") -> tuple[list[str], Listing]:
    listing = list_data(folder, wanted)
    return [str(file.paths[0].relative_to(folder)) for file in listing.files], listing


BOTH = ["RS_2020-01.jsonl", "RC_2020-01.jsonl"]


def test_what_a_file_is_does_not_depend_on_its_name(folder: Path) -> None:
    write(folder / "posts.txt", lines(POST))
    write(folder / "old" / "RC_2010-01", bz2.compress(lines(COMMENT)))
    write(folder / "old" / "no ending", lzma.compress(lines(COMMENT)))
    write(folder / "README.md", b"These dumps, and their posts, are from 2020.\n")
    write(folder / "checksums", b"d41d8cd98f00b204e9800998ecf8427e  RC_2020-01.jsonl\n")
    write(folder / "logo", b"\x89PNG\r\n\x1a\n" + bytes(range(64)))
    write(folder / "dataset_infos.json", b'{"default": {"features": {}}}')
    names, listing = found(folder)
    assert names == ["RS_2020-01.jsonl", "posts.txt", "old/RC_2010-01", "RC_2020-01.jsonl", "old/no ending"]
    assert listing.left_out == {
        "README.md": "has no columns that are known",
        "checksums": "is neither JSON lines nor a Parquet or CSV file",
        "logo": "is a picture",
        "dataset_infos.json": "holds JSON objects with the keys default, which no known layout has",
    }


def test_a_list_of_subreddits_is_left_out_whatever_its_name(folder: Path) -> None:
    entry = {"id": "2qh", "name": "t5_2qh", "display_name": "sheds", "title": "Sheds", "subscribers": 9}
    write(folder / "subreddits_2020-01.jsonl", lines(entry))
    names, listing = found(folder)
    assert names == BOTH
    assert list(listing.left_out) == ["subreddits_2020-01.jsonl"]
    with pytest.raises(PipelineError, match="is a list of subreddits"):
        list_data(folder / "subreddits_2020-01.jsonl", "auto")


def test_links_are_followed_once_and_named_where_they_lead_elsewhere(folder: Path, tmp_path: Path) -> None:
    elsewhere = write(tmp_path / "disk" / "months" / "RC_2020-02.jsonl", lines(COMMENT)).parent
    (folder / "months").symlink_to(elsewhere)
    (folder / "months-again").symlink_to(elsewhere)
    (folder / "up").symlink_to(folder)
    (folder / "above").symlink_to("/")
    (folder / "within").symlink_to(folder / "RC_2020-01.jsonl")
    (folder / "RC_2020-03.jsonl").symlink_to(write(tmp_path / "disk" / "59da66", lines(COMMENT)))
    os.link(folder / "RS_2020-01.jsonl", folder / "RS_2020-01-hard.jsonl")
    names, listing = found(folder)
    assert names == ["RS_2020-01-hard.jsonl", "RC_2020-01.jsonl", "months/RC_2020-02.jsonl", "RC_2020-03.jsonl"]
    assert listing.left_out == {
        "RS_2020-01.jsonl": "is the same file as RS_2020-01-hard.jsonl",
        "within": "is the same file as RC_2020-01.jsonl",
        "above/": "is a link to a folder that holds this one",
        "up/": "is a folder that is read already",
        "months-again/": "is a folder that is read already",
    }
    assert listing.links == {
        "months/": str(elsewhere),
        "months-again/": str(elsewhere),
        "RC_2020-03.jsonl": str(tmp_path / "disk" / "59da66"),
    }


def test_links_that_lead_round_end(folder: Path) -> None:
    for name, target in (("a", "b"), ("b", "a")):
        (folder / name).mkdir()
        (folder / name / "back").symlink_to(folder / target)
    (folder / "self").symlink_to("self")
    names, listing = found(folder)
    assert names == BOTH
    assert listing.left_out["self"] == "is a link that leads back to itself"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.symlink_to("/unmounted/disk"), "is a link to /unmounted/disk, which does not exist"),
        (os.mkfifo, "is a FIFO and no regular file"),
        (lambda path: write(path, b"7z\xbc\xaf\x27\x1c\x00\x04"), "is a 7z archive"),
        (lambda path: write(path, b"Rar!\x1a\x07\x01\x00"), "is a RAR archive"),
        (lambda path: write(path, bytes(2000)), "is filled with zeros"),
        (lambda path: write(path, bz2.compress(lines(COMMENT))[:20]), "ends in the middle"),
        (lambda path: write(path, b"SQLite format 3\0" + bytes(100)), "is a SQLite database"),
        (lambda path: write(path, lines({"some": 1, "thing": 2})), "the keys some, thing"),
        (lambda path: write(path, b""), "is empty"),
    ],
    ids=["dangling link", "FIFO", "7z", "RAR", "zeros", "cut off", "SQLite", "other keys", "empty"],
)
def test_what_cannot_be_read_ends_the_run_if_its_name_is_that_of_data_and_is_named_otherwise(
    folder: Path, make: object, reason: str
) -> None:
    assert callable(make)
    make(folder / "something")
    names, listing = found(folder)
    assert names == BOTH
    assert list(listing.left_out) == ["something"]
    make(folder / "RC_2020-02.zst")
    with pytest.raises(PipelineError, match=rf"RC_2020-02\.zst.* ({reason})"):
        list_data(folder, "auto")


def outcome_for_another_user(look: Callable[[], object]) -> str:
    """What a function returns or raises in a process of a user who owns nothing, which root can become."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            said = str(look())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        said = file.read()
    os.waitpid(child, 0)
    return said


def in_a_closed_folder(folder: Path, name: str) -> None:
    """Link to a file in a folder beside this one that its owner alone may enter."""
    closed = folder.with_name(f"{folder.name}-closed")
    write(closed / "data", lines(COMMENT))
    closed.chmod(0)
    (folder / name).symlink_to(closed / "data")


def closed_below(folder: Path, mode: int, inside: str = "inner") -> None:
    write(folder / inside / "RC_2020-02.jsonl", lines(COMMENT)).parent.chmod(mode)


def device(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))


def socket_at(path: Path) -> None:
    # The path of a socket has at most 107 bytes.
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(here)


CLOSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "data": (lambda folder: (folder / "RC_2020-01.jsonl").chmod(0), "RC_2020-01.jsonl, in the folder"),
    "a folder": (lambda folder: closed_below(folder, 0), "inner, which the setting corpus names"),
    "a folder in a folder": (lambda folder: closed_below(folder, 0, "a/b"), "a/b, which the setting corpus names"),
    "a folder that may be listed and not entered": (lambda folder: closed_below(folder, 0o444), "inner/RC_2020-02"),
    "a folder that may be entered and not listed": (lambda folder: closed_below(folder, 0o111), "inner, which"),
    "the root": (lambda folder: folder.chmod(0), "dumps, which the setting corpus names"),
    "utterances": (lambda folder: write(folder / "cc/utterances.jsonl", b"{}").chmod(0), "cc/utterances.jsonl, which"),
    "splits": (lambda folder: write(folder / "dataset_dict.json", b"{}").chmod(0), "dataset_dict.json, which"),
    "what a link to data leads to": (lambda folder: in_a_closed_folder(folder, "RC_2020-03.jsonl"), "RC_2020-03.jsonl"),
}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("name", CLOSED)
def test_what_may_not_be_read_ends_the_run(name: str) -> None:
    close, named = CLOSED[name]
    # Folders of pytest are closed to other users.
    with TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        folder = Path(place) / "dumps"
        write(folder / "RC_2020-01.jsonl", lines(COMMENT))
        write(folder / "RS_2020-01.jsonl", lines(POST))
        close(folder)
        said = outcome_for_another_user(lambda: list_data(folder, "auto"))
        assert said.startswith("PipelineError: ")
        assert f"{named}" in said
        assert "may not be read by this user: change its mode or its owner" in said
        watched = outcome_for_another_user(lambda: watched_files(folder, "auto"))
        assert watched.startswith(("PipelineError: ", "[")), watched


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_what_is_no_data_and_may_not_be_read_is_named() -> None:
    with TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        folder = Path(place) / "dumps"
        write(folder / "RS_2020-01.jsonl", lines(POST))
        write(folder / "notes", b"some notes").chmod(0)
        in_a_closed_folder(folder, "thing")
        closed_below(folder, 0, ".cache")
        os.mkfifo(folder / "pipe")
        socket_at(folder / "socket")
        device(folder / "device")
        said = outcome_for_another_user(lambda: list_data(folder, "auto").left_out)
        assert ast.literal_eval(said) == {
            ".cache/": "is hidden",
            "notes": "may not be read by this user",
            "thing": "may not be read by this user",
            "pipe": "is a FIFO and no regular file",
            "socket": "is a socket and no regular file",
            "device": "is a device and no regular file",
        }


@pytest.mark.parametrize(("make", "kind"), [(socket_at, "a socket"), (device, "a device"), (os.mkfifo, "a FIFO")])
def test_what_is_no_file_ends_the_run_if_its_name_or_a_link_to_it_is_that_of_data(
    folder: Path, make: Callable[[Path], object], kind: str
) -> None:
    if make is device and os.geteuid() != 0:
        pytest.skip("only root makes devices")
    make(folder.with_name("thing"))
    (folder / "RC_2020-02.zst").symlink_to(folder.with_name("thing"))
    with pytest.raises(PipelineError, match=rf"RC_2020-02\.zst.* is {kind} and no regular file"):
        list_data(folder, "auto")
    with pytest.raises(PipelineError, match=rf"thing.* is {kind} and no regular file"):
        list_data(folder.with_name("thing"), "auto")


def test_several_corpora_of_convokit_in_a_folder_are_read(folder: Path) -> None:
    for name in ("one", "two"):
        write(folder / name / "utterances.jsonl", b"")
        write(folder / name / "corpus.json", b"{}")
    assert found(folder)[0] == ["one", "two", *BOTH]
    write(folder / "one" / "notes.txt", b"")
    assert list_data(folder / "one", "auto").left_out == {"notes.txt": "is no file of a ConvoKit corpus"}


@pytest.mark.parametrize("folder", ["/proc", "/proc/self/task", "/sys"])
def test_a_folder_of_the_kernel_is_not_walked_through(folder: str, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="is written by the kernel while it is read: give a file on a disk"):
        list_data(Path(folder), "auto")
    write(tmp_path / "RC.jsonl", lines(COMMENT))
    (tmp_path / "machine").symlink_to(folder)
    assert list_data(tmp_path, "auto").left_out == {"machine/": "is written by the kernel while it is read"}


def test_a_folder_without_data_says_what_it_holds(tmp_path: Path) -> None:
    write(tmp_path / "forum.db", b"SQLite format 3\0" + bytes(100))
    write(tmp_path / ".hidden", b"")
    with pytest.raises(PipelineError, match=r"nor a folder of dumps or tables \(forum.db is a SQLite database\)"):
        list_data(tmp_path, "auto")


def test_a_set_of_numbered_files_names_what_it_lacks(tmp_path: Path) -> None:
    for name in ("a-00000-of-00004.csv", "a-00003-of-00004.jsonl", "b_1_of_2.csv", "b_2_of_2.csv", "c-1-of-3.csv"):
        content = b"id,conversation_id,reply_to,text,score\n1,1,,hi,1\n"
        record = dict.fromkeys(("id", "conversation_id", "text", "score"), "1") | {"reply_to": None}
        (tmp_path / name).write_bytes(lines(record) if name.endswith("jsonl") else content)
    assert found(tmp_path)[1].left_out == {
        "a-00001-of-00004.csv": "is missing, with 1 others, as the names of the files beside it tell",
        "c-0-of-3.csv": "is missing, with 1 others, as the names of the files beside it tell",
    }


def test_with_a_format_only_files_with_names_of_data_are_read(folder: Path) -> None:
    write(folder / "notes.txt", lines(COMMENT))
    names, listing = found(folder, "dump")
    assert names == BOTH
    assert list(listing.left_out) == ["notes.txt"]


def test_the_files_that_are_watched_are_those_that_are_read(folder: Path) -> None:
    write(folder / "posts.txt", lines(POST))
    write(folder / "README", b"where it is from")
    assert [path.name for path in watched_files(folder, "auto")] == [
        "RC_2020-01.jsonl",
        "RS_2020-01.jsonl",
        "posts.txt",
    ]


def test_a_saved_dataset_is_what_its_state_lists(tmp_path: Path) -> None:
    import pyarrow as pa

    def arrow(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.table({name: ["a"] for name in ("id", "conversation_id", "reply_to", "text", "score")})
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)

    saved = tmp_path / "saved"
    for split in ("train", "test"):
        arrow(saved / split / "data-00000-of-00001.arrow")
        write(saved / split / "dataset_info.json", b"{}")
        write(saved / split / "state.json", b'{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    write(saved / "dataset_dict.json", b'{"splits": ["train", "test"]}')
    arrow(saved / "train" / "cache-0123456789abcdef.arrow")
    names, listing = found(saved)
    assert names == ["test/data-00000-of-00001.arrow", "train/data-00000-of-00001.arrow"]
    assert [file.name for file in listing.files] == ["saved", "saved"]
    assert list(listing.left_out) == ["train/cache-0123456789abcdef.arrow"]
    write(saved / "test" / "state.json", b'{"_data_files": [{"filename": "a"}], "_indices_data_files": [{}]}')
    with pytest.raises(PipelineError, match="flatten_indices"):
        list_data(saved, "auto")
    write(saved / "test" / "state.json", b'{"_data_files": [{"filename": "lost.arrow"}]}')
    with pytest.raises(PipelineError, match=r"lacks lost\.arrow, which its state\.json lists"):
        list_data(saved, "auto")
    write(saved / "dataset_dict.json", b'{"splits": ["train", "validation"]}')
    with pytest.raises(PipelineError, match=r"lacks validation, which its dataset_dict\.json lists"):
        list_data(saved, "auto")


CONVOKIT = {
    "utterances.jsonl": lines({"id": "a", "conversation_id": "a", "text": "x", "speaker": "s"}),
    "conversations.json": b'{"a": {"meta": {"title": "t"}}}',
    "corpus.json": b"{}",
}


@pytest.mark.parametrize("name", ["conversations.json", "corpus.json", "speakers.json", "index.json", "users.json"])
@pytest.mark.parametrize(
    ("put", "problem"),
    [
        (lambda path: path.symlink_to("/nowhere"), "is a link to /nowhere, which does not exist"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device and no regular file"),
        (os.mkfifo, "is a FIFO and no regular file"),
        (Path.mkdir, "is a folder and no regular file"),
    ],
)
def test_files_beside_the_utterances_are_regular_files(
    tmp_path: Path, name: str, put: Callable[[Path], None], problem: str
) -> None:
    for each, content in CONVOKIT.items():
        write(tmp_path / each, content)
    (tmp_path / name).unlink(missing_ok=True)
    put(tmp_path / name)
    with pytest.raises(PipelineError, match=f"{name}, which the setting corpus names, {problem}"):
        list_data(tmp_path, "auto")


def test_json_beside_the_utterances_may_be_deep_and_wrong(tmp_path: Path) -> None:
    deep = b'{"a":' * 100_000
    for path in (tmp_path / "corpus.json", tmp_path / "conversations.json"):
        path.write_bytes(deep)
    with pytest.raises(PipelineError, match=r"corpus\.json, .* is not one whole JSON value"):
        corpus_name(tmp_path, "x")
    with pytest.raises(PipelineError, match="nests its values too deeply"):
        list(titles(tmp_path))
    (tmp_path / "corpus.json").write_text("[1]")
    assert corpus_name(tmp_path, "x") == "x"


def test_titles_behind_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    entries = json.dumps({"c1": {"meta": {"title": "T"}}}).encode()
    (tmp_path / "conversations.json").write_bytes(b"\xef\xbb\xbf" + entries)
    assert [title and title.title for title in titles(tmp_path)] == ["T"]


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "mark": lambda content: b"\xef\xbb\xbf" + content,
    "gzip and mark": lambda content: gzip.compress(b"\xef\xbb\xbf" + content),
}


@pytest.mark.parametrize("packed", PACKINGS)
def test_each_file_of_a_corpus_may_be_packed(tmp_path: Path, packed: str) -> None:
    write(tmp_path / "conversations.json", PACKINGS[packed](json.dumps({"c1": {"meta": {"title": "Té"}}}).encode()))
    write(tmp_path / "corpus.json", PACKINGS[packed](b'{"name": "forum"}'))
    write(tmp_path / "utterances.jsonl", PACKINGS[packed](CONVOKIT["utterances.jsonl"]))
    assert list_data(tmp_path, "auto").files
    assert [title and title.title for title in titles(tmp_path)] == ["Té"]
    assert corpus_name(tmp_path, "x") == "forum"


@pytest.mark.parametrize("name", ["conversations.json", "corpus.json", "utterances.jsonl"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}".encode("utf-16"), "is text in UTF-16: save it as UTF-8"),
        (gzip.compress("{}".encode("utf-16"), mtime=0), "is text in UTF-16: save it as UTF-8"),
        (b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer .*: fetch the file by `git lfs pull`"),
        (b"<!doctype html>", "is a web page: download the file itself"),
        (gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), "is packed twice: unpack it once"),
        (b"PK\x03\x04", "is a zip archive: put the JSON in its place"),
    ],
)
def test_what_stands_in_place_of_a_file_of_a_corpus_is_said(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    for each, whole in CONVOKIT.items():
        write(tmp_path / each, whole)
    write(tmp_path / name, content)
    with pytest.raises(PipelineError, match=f"{name}, which the setting corpus names, {said}"):
        list_data(tmp_path, "auto")


def test_titles_under_another_name_are_not_lost(tmp_path: Path) -> None:
    write(tmp_path / "utterances.jsonl", CONVOKIT["utterances.jsonl"])
    write(tmp_path / "conversations.json.gz", gzip.compress(CONVOKIT["conversations.json"]))
    with pytest.raises(PipelineError, match=r"has another name than conversations\.json: rename it, packed or not"):
        list_data(tmp_path, "auto")


def test_what_lies_beside_a_corpus_in_a_folder_of_corpora_is_named(folder: Path) -> None:
    write(folder / "cc" / "utterances.jsonl", CONVOKIT["utterances.jsonl"])
    write(folder / "cc" / "vectors.npy", b"")
    write(folder / "cc" / "more" / "RC_2020-02.jsonl", lines(COMMENT))
    foreign = "is no file of a ConvoKit corpus"
    assert list_data(folder, "auto").left_out == {"cc/more/": foreign, "cc/vectors.npy": foreign}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_corpus_in_a_closed_folder_says_that_it_is_closed() -> None:
    with TemporaryDirectory() as place:
        write(Path(place) / "dumps" / "RS_2020-01.jsonl", lines(POST))
        source = CorpusSettings(corpus=f"{place}/dumps")
        said = outcome_for_another_user(lambda: check_source(source))
        assert "dumps may not be read by this user: change its mode or its owner" in said


def test_names_that_are_no_utf8(folder: Path) -> None:
    name = os.fsdecode(b"RC_\xff.jsonl")
    write(folder / name, lines({**COMMENT, "id": "d"}))
    write(folder / os.fsdecode(b".\xfe"), b"")
    _, listing = found(folder)
    assert [file.name for file in listing.files] == ["RS_2020-01", "RC_2020-01", "RC_\\xff"]
    assert list(listing.left_out) == [".\\xfe"]
    with pytest.raises(PipelineError, match="has a path that is not UTF-8"):
        check_source(CorpusSettings(corpus=str(folder / name)))
