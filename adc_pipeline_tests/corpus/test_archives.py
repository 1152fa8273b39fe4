"""Archives of dumps are read as the folder in them would be, and write nothing but that."""

import bz2
import errno
import gzip
import io
import json
import lzma
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import zstandard

from adc_pipeline.core.errors import PipelineError, is_disk_full
from adc_pipeline.corpus import source
from adc_pipeline.corpus.files import archives
from adc_pipeline.corpus.files.archives import unpack
from adc_pipeline.corpus.parts import list_parts, read_record
from adc_pipeline.corpus.recognition import formats
from adc_pipeline.corpus.recognition.formats import Recognised, recognise_anew
from adc_pipeline.corpus.settings import CorpusSettings
from adc_pipeline.corpus.source import check_source, fetch

POST = b'{"id": "p", "title": "why", "selftext": "", "subreddit": "s", "created_utc": 1, "score": 1}\n'
COMMENT = b'{"id": "c", "link_id": "t3_p", "parent_id": "t3_p", "body": "yes", "created_utc": 2, "score": 1}\n'
DUMPS = {
    "sheds/comments.zst": zstandard.compress(COMMENT * 99),
    "sheds/posts": POST,
    "sheds/README.txt": b"where it is from",
    "sheds/model.bin": bytes(1 << 20),
    "__MACOSX/sheds/._posts": b"\0\5\x16\7",
}


def zipped(path: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, members: Mapping[str, bytes], pack: Callable[[bytes], bytes] = bytes) -> Path:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    path.write_bytes(pack(packed.getvalue()))
    return path


def made(kind: str, path: Path, members: Mapping[str, bytes] = DUMPS) -> Path:
    packs: dict[str, Callable[[bytes], bytes]] = {"tar": bytes, "tar.xz": lzma.compress, "tar.bz2": bz2.compress}
    packs["tar.zst"] = zstandard.compress
    return zipped(path, members) if kind == "zip" else tarred(path, members, packs[kind])


KINDS = ["zip", "tar", "tar.xz", "tar.bz2", "tar.zst"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["dumps.zip", "no ending"])
def test_an_archive_of_dumps_is_read_as_a_folder(tmp_path: Path, kind: str, name: str) -> None:
    settings = CorpusSettings(str(made(kind, tmp_path / name)))
    check_source(settings)
    fetch(settings, {}, tmp_path / "out")
    parts = list_parts(tmp_path / "out", settings)
    assert [(part.name, part.what.kind) for part in parts] == [("posts", "submissions"), ("comments", "comments")]
    assert [part.path.read_bytes() for part in parts] == [DUMPS["sheds/posts"], DUMPS["sheds/comments.zst"]]
    assert read_record(tmp_path / "out")["left_out"] == {
        f"{name}/sheds/README.txt": "is neither JSON lines nor a Parquet or CSV file",
        f"{name}/sheds/model.bin": "is filled with zeros, as a download that has not finished",
        f"{name}/__MACOSX/sheds/._posts": "is hidden",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "out", "parts.json"])


def test_archives_in_a_folder_are_read_with_the_files_beside_them(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    made("tar.zst", tmp_path / "in" / "comments.tar.zst", {"RC_2020": COMMENT})
    made("zip", tmp_path / "in" / "z.zip", {"RS_2020": POST, "inner.zip": b"PK\x05\x06" + bytes(18)})
    (tmp_path / "in" / "RS_2019.jsonl").write_bytes(POST)
    settings = CorpusSettings(str(tmp_path / "in"))
    fetch(settings, {}, tmp_path / "out")
    assert [part.name for part in list_parts(tmp_path / "out", settings)] == ["RS_2019", "RS_2020", "RC_2020"]
    assert read_record(tmp_path / "out")["left_out"] == {"in/z.zip/inner.zip": "is an archive in an archive"}


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("prefix", ["", "some-corpus/"])
def test_of_a_convokit_corpus_only_its_own_files_are_unpacked(tmp_path: Path, kind: str, prefix: str) -> None:
    members = {"utterances.jsonl": b"{}\n", "index.json": b"{}", "model.bin": bytes(9999), "notes.txt": b"text"}
    archive = made(kind, tmp_path / "corpus", {prefix + name: content for name, content in members.items()})
    fetch(CorpusSettings(str(archive)), {}, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out" / "00").iterdir()) == ["index.json", "utterances.jsonl"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside", "..\\outside"])
def test_an_archive_that_would_write_outside_its_folder_is_refused(tmp_path: Path, kind: str, name: str) -> None:
    archive = made(kind, tmp_path / "archive", {name: POST})
    with pytest.raises(PipelineError, match="outside its folder: do not trust it"):
        unpack(archive, tmp_path / "in" / "here")
    assert not list(tmp_path.rglob("*outside*"))


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize(
    "members",
    [
        {f"{'x' * 256}.jsonl": POST},
        {f"{'d/' * 3000}RS_2020": POST},
        {"a": POST, "a/b.jsonl": COMMENT},
        {"a/b.jsonl": COMMENT, "a": POST},
        {".": POST},
    ],
)
def test_a_member_whose_name_no_file_can_have_is_named(tmp_path: Path, kind: str, members: dict[str, bytes]) -> None:
    with pytest.raises(PipelineError, match=r"holds '.*', which cannot be written \(.*\): unpack it by other names"):
        unpack(made(kind, tmp_path / "archive", members), tmp_path / "here")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_of_what_is_left_packed_a_name_may_be_too_long(tmp_path: Path, kind: str) -> None:
    name = f"{'x' * 256}.png"
    assert unpack(made(kind, tmp_path / "archive", {name: b"\x89PNG\r\n\x1a\n"}), tmp_path / "here") == {
        name: "is a picture"
    }


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.EACCES, errno.EMFILE, errno.ENOSPC, errno.EDQUOT])
def test_what_the_system_refuses_is_no_damage_of_an_archive(number: int) -> None:
    with pytest.raises((OSError, PipelineError)) as refused, archives.archive_errors(Path("archive")):
        raise OSError(number, os.strerror(number), "archive")
    assert "fetch it again" not in str(refused.value)
    assert os.strerror(number) in str(refused.value)
    assert isinstance(refused.value, OSError) == is_disk_full(refused.value) or number == errno.EMFILE


def test_links_and_devices_in_an_archive_are_never_created(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "tar", "w") as tar:
        for name, kind in (("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("fifo", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    for suffix, names in (("tar", {"link", "hard", "fifo"}), ("zip", {"link"})):
        assert set(unpack(tmp_path / suffix, tmp_path / f"{suffix}-out")) == names
        assert list((tmp_path / f"{suffix}-out").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_fit_on_the_disk_is_refused_before_it_is_written(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = made(kind, tmp_path / "archive", {"a.jsonl": POST * 50_000, "b.jsonl": POST * 50_000})
    free = archives.RESERVE + len(POST) * 99_999
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(free, 0, free))
    with pytest.raises(PipelineError, match=r"unpacks to .* MB, and the disk of ADC_HOME has .* MB to spare"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out" / "b.jsonl").exists()


def test_a_zip_that_is_packed_as_no_text_is_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "ANY_RATIO", 1 << 20)
    with zipfile.ZipFile(tmp_path / "corpus.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("corpus/utterances.jsonl", b" " * (1 << 21))
    with pytest.raises(PipelineError, match=r"unpacks to 2 MB, more than 200 times its size"):
        unpack(tmp_path / "corpus.zip", tmp_path / "unpacked")
    assert not list((tmp_path / "unpacked").rglob("utterances.jsonl"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [30, 4000])
def test_an_archive_cut_off_is_refused(tmp_path: Path, kind: str, cut: int) -> None:
    import random

    noise = bytes(random.Random(0).choices(range(32, 127), k=50_000))
    content = b'{"id": "c", "link_id": "t3_p", "body": "' + noise.replace(b"\\", b"").replace(b'"', b"") + b'"}\n'
    archive = made(kind, tmp_path / "archive", {"a.jsonl": content, "b.jsonl": content})
    size = archive.stat().st_size - (11_000 if kind == "tar" else 0)
    archive.write_bytes(archive.read_bytes()[: size - cut])
    with pytest.raises(PipelineError, match=r"(damaged|incomplete|cannot be unpacked).*fetch it again"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_with_bytes_that_cannot_be_unpacked_is_refused(tmp_path: Path, packing: int) -> None:
    """Found by the fuzzer: the error of the library that unpacks, behind the first block."""
    import random

    noise = random.Random(0).randbytes(1 << 17).hex().encode()
    with zipfile.ZipFile(tmp_path / "archive", "w", packing) as archive:
        archive.writestr("comments.jsonl", COMMENT * 12_000 + noise)
    content = bytearray((tmp_path / "archive").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4096] = b"\xff\0" * 2048
    (tmp_path / "archive").write_bytes(content)
    with pytest.raises(PipelineError, match="damaged or incomplete: fetch it again"):
        unpack(tmp_path / "archive", tmp_path / "out")


def test_a_member_without_a_name_is_damage(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "archive", {"?": POST})
    archive.write_bytes(archive.read_bytes().replace(b"?", b"\0"))
    with pytest.raises(PipelineError, match="damaged or incomplete: fetch it again"):
        check_source(CorpusSettings(str(archive)))


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "archive", {"a.jsonl": POST})
    content = bytearray(archive.read_bytes())
    # The flag of encryption, in the header of the file and in the table of contents.
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(magic) + offset] |= 1
    archive.write_bytes(content)
    with pytest.raises(PipelineError, match="is encrypted: unpack it"):
        check_source(CorpusSettings(str(archive)))


def test_a_zip_that_is_packed_once_more_is_not_called_damaged(tmp_path: Path) -> None:
    packed = zipped(tmp_path / "a.zip", {"RS_2020": POST, "RC_2020": COMMENT})
    packed.write_bytes(gzip.compress(packed.read_bytes()))
    with pytest.raises(PipelineError, match="is a zip archive that is packed once more: unpack it first"):
        check_source(CorpusSettings(str(packed)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_in_an_archive_is_named_as_a_person_knows_it(tmp_path: Path, kind: str) -> None:
    archive = made(kind, tmp_path / "archive", {"in/RC_2020.zst": zstandard.compress(COMMENT * 999)[:-9]})
    with pytest.raises(PipelineError, match=rf"{archive}/in/RC_2020\.zst|cannot be unpacked|ends in the middle"):
        fetch(CorpusSettings(str(archive)), {}, tmp_path / "out")


def test_an_office_document_is_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "book", {"[Content_Types].xml": b"<x/>", "xl/workbook.xml": b"<x/>"})
    with pytest.raises(PipelineError, match=r"is an Excel workbook .*: save the sheet as CSV"):
        check_source(CorpusSettings(str(archive)))


def test_a_zip_that_unpacks_itself_is_read_and_another_program_is_refused(tmp_path: Path) -> None:
    program = b"MZ\x90\0" + bytes(3000)
    alone = zipped(tmp_path / "some.zip", {"comments": COMMENT, "posts": POST})
    path = tmp_path / "some.exe"
    path.write_bytes(program + alone.read_bytes())
    check_source(CorpusSettings(str(path)))
    assert unpack(path, tmp_path / "unpacked") == {}
    assert (tmp_path / "unpacked/posts").read_bytes() == POST
    path.write_bytes(program)
    with pytest.raises(PipelineError, match="is a program: unpack it if it is an archive that unpacks itself"):
        check_source(CorpusSettings(str(path)))


def test_an_archive_without_data_is_named_with_what_it_holds(tmp_path: Path) -> None:
    inner = zipped(tmp_path / "inner", {"a.jsonl": POST}).read_bytes()
    archive = zipped(tmp_path / "archive", {"inner.zip": inner})
    with pytest.raises(PipelineError, match=r"archive holds no data \(inner\.zip is an archive in an archive\)"):
        fetch(CorpusSettings(str(archive)), {}, tmp_path / "out")


def test_json_in_a_zip_is_data_or_named(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "archive", {"a.jsonl": POST, "infos.json": json.dumps({"default": 1}).encode()})
    assert list(unpack(archive, tmp_path / "out")) == ["infos.json"]


def test_backslashes_of_windows_separate_folders(tmp_path: Path) -> None:
    members = {"some\\": b"", "some\\utterances.jsonl": b"{}", "some\\corpus.json": b"{}"}
    unpack(zipped(tmp_path / "archive", members), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out" / "some").iterdir()) == ["corpus.json", "utterances.jsonl"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_of_two_files_of_one_name_the_later_is_read_and_the_other_named(tmp_path: Path, kind: str) -> None:
    archive, later = tmp_path / "archive", POST.replace(b"1", b"2")
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr("a.jsonl", POST)
            with pytest.warns(UserWarning, match="Duplicate name"):
                opened.writestr("a.jsonl", later)
    else:
        with tarfile.open(archive, "w") as opened:
            for content in (POST, later):
                info = tarfile.TarInfo("a.jsonl")
                info.size = len(content)
                opened.addfile(info, io.BytesIO(content))
    left_out = unpack(archive, tmp_path / "out")
    assert left_out == {"a.jsonl (earlier)": "is replaced by a later file of its name in the archive"}
    assert (tmp_path / "out" / "a.jsonl").read_bytes() == later


def test_each_member_is_judged_by_its_own_first_bytes(tmp_path: Path) -> None:
    """Their first bytes are written to one file in turn, which is not emptied between them."""
    head = tmp_path / "head"
    for content in (b"long and first", b"short", b"", b"longer than the first one"):
        archives.overwrite(head, content)
        assert head.read_bytes() == content


def test_members_of_one_size_are_told_apart_within_one_tick_of_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "identity", lambda path, *_: path.stat().st_size)
    note = b"one, two\n".ljust(len(COMMENT), b".")
    members = {f"{number:03}.{'txt' if number % 2 else 'data'}": (note, COMMENT)[number % 2] for number in range(40)}
    left_out = unpack(zipped(tmp_path / "many.zip", members), tmp_path / "out")
    assert sorted(left_out) == [name for name in sorted(members) if name.endswith(".data")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(members.keys() - left_out.keys())


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_what_a_small_member_is_found_to_be_is_not_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    archive = made(kind, tmp_path / f"archive.{kind}", {f"{number}.jsonl": COMMENT for number in range(3)})
    looked: list[Path] = []

    def look(path: Path, *others: Any) -> Recognised:
        looked.append(path)
        return recognise_anew(path, *others)

    monkeypatch.setattr(formats, "recognise_anew", look)
    monkeypatch.setattr(archives, "recognise_anew", look)
    fetch(CorpusSettings(corpus=str(archive)), {}, tmp_path / "corpus")
    assert [part.what.kind for part in list_parts(tmp_path / "corpus", CorpusSettings())] == ["comments"] * 3
    assert [path.name for path in looked].count(".head") == len(looked) - 1 == 3


def test_an_archive_that_changes_while_it_is_unpacked_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zipped(tmp_path / "dumps.zip", DUMPS)

    def unpack_meanwhile(path: Path, *rest: Any) -> dict[str, str]:
        left_out = unpack(path, *rest)
        os.utime(path, (1, 1))
        return left_out

    monkeypatch.setattr(source, "unpack", unpack_meanwhile)
    with pytest.raises(PipelineError, match="has changed since the corpus was recorded"):
        fetch(CorpusSettings(str(archive)), {}, tmp_path / "corpus")


def test_archives_behind_one_another_are_read_or_refused(tmp_path: Path) -> None:
    posts, comments = {"posts": POST}, {"comments": COMMENT}
    joined = tmp_path / "joined"
    joined.write_bytes(tarred(tmp_path / "a", posts).read_bytes() + tarred(tmp_path / "b", comments).read_bytes())
    assert unpack(joined, tmp_path / "tar") == {}
    assert sorted(os.listdir(tmp_path / "tar")) == ["comments", "posts"]
    joined.write_bytes(zipped(tmp_path / "a", posts).read_bytes() + zipped(tmp_path / "b", comments).read_bytes())
    with pytest.raises(PipelineError, match="several zip archives behind one another: unpack them"):
        check_source(CorpusSettings(str(joined)))


def test_what_is_no_header_of_a_tar_is_named_behind_its_end_and_damage_before(tmp_path: Path) -> None:
    sound = tarred(tmp_path / "sound", {"posts": POST, "comments": COMMENT}).read_bytes()
    archive = tmp_path / "archive"
    for number, behind in enumerate((b"signature", b"x" * 2000)):
        archive.write_bytes(sound + behind)
        assert unpack(archive, tmp_path / str(number)) == {archives.BEHIND: archives.NO_MEMBER}
        assert len(os.listdir(tmp_path / str(number))) == 2
    for damaged in (sound[:1024] + b"\1" * 512 + sound[1536:], sound[:1200]):
        archive.write_bytes(damaged)
        with pytest.raises(PipelineError, match="is damaged or incomplete: fetch it again"):
            unpack(archive, tmp_path / str(len(damaged)))


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_table_whose_log_tells_what_counts_is_refused_in_an_archive_too(tmp_path: Path, kind: str) -> None:
    archive = made(kind, tmp_path / "archive", {"table/part": POST, "table/_delta_log/0.json": b"{}"})
    with pytest.raises(PipelineError, match="holds a table of Delta Lake"):
        unpack(archive, tmp_path / "out")
