"""Unpack a file by its first bytes, one block at a time: zstd, gzip, bzip2, xz, and Arctic Shift's zst_blocks.

Python's own file objects for gzip, bzip2 and xz and zstandard's reader are not used: some of them do not notice a
file that ends in the middle, or ignore what follows the last stream. Each packing here is a sequence of streams, with
zeros between and behind them, which are padding. A little else behind the last one, such as a checksum or a message of
a server, becomes one line that no reader can read, so that it is counted. Memory holds a few blocks; a zstd frame may
ask for a window of up to 2 GiB.
"""

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

from adc_pipeline.core.errors import PipelineError

BLOCK = 1 << 20
# A few bytes of zstd can stand for 128 KiB, so this bounds what one call may unpack (to 512 MiB at the worst).
PACKED_BLOCK = 16 << 10
WINDOW = 1 << 31
# The byte order mark that some programs write before UTF-8, and DuckDB takes for a part of the first line.
MARK = b"\xef\xbb\xbf"
# What DOS and CP/M write behind the end of a text.
END_OF_TEXT = b"\x1a"
# Bytes that tell how what follows is packed, and the most behind the last stream that are not taken for lost data.
START, MOST_BEHIND = 16, 64 << 10
# What stands for these, behind an end of line: JSON that is no record, and no row of a table either.
BEHIND = b"\nnull\n"

Packing = Literal["zstd", "gzip", "bzip2", "xz", "zst_blocks", "none"]

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
GZIP_MAGIC, BZIP2_MAGIC, XZ_MAGIC, LZMA_MAGIC = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x5d\x00\x00"


def packing(path: Path) -> Packing:
    """Return how a file is packed."""
    with path.open("rb") as file:
        return packing_of(file.read(START))


def packing_of(first: bytes) -> Packing:
    """Return how a file with these first bytes (16 or more) is packed."""
    # A zstd file may begin with a frame that is to be skipped; parallel compressors write such.
    if first.startswith(ZSTD_MAGIC) or (first[1:4] == b"\x2a\x4d\x18" and 0x50 <= first[0] <= 0x5F):
        return "zstd"
    if first.startswith(GZIP_MAGIC):
        return "gzip"
    # The block size, then the magic number of a block or of the end.
    if first.startswith(BZIP2_MAGIC) and first[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90"):
        return "bzip2"
    if first.startswith((XZ_MAGIC, LZMA_MAGIC)):
        return "xz"
    return "zst_blocks" if first[4:8] == ZSTD_MAGIC else "none"


def blocks(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Yield the unpacked content of `file` without its byte order mark and `END_OF_TEXT`, at most `BLOCK` bytes a time.

    `path` names the file in errors. Raises PipelineError where the file ends in the middle or is damaged.
    """
    import zstandard

    kind = packing_of(file.read(START))
    file.seek(0)
    if kind == "none":
        unpacked = iter(lambda: file.read(BLOCK), b"")
    elif kind == "zst_blocks":
        unpacked = _from_zst_blocks(file, path)
    else:
        unpacked = _from_streams(file, path, kind)
    try:
        for number, found in enumerate(without_end(unpacked)):
            block = found.removeprefix(MARK) if not number else found
            for start in range(0, len(block), BLOCK):
                yield block[start : start + BLOCK]
    except (zstandard.ZstdError, zlib.error, lzma.LZMAError, EOFError, ValueError, struct.error) as error:
        if isinstance(error, zstandard.ZstdError) and "ictionary" in str(error):
            raise PipelineError(
                f"{path.resolve()}, which the setting corpus names, was packed by zstd with a dictionary, which is"
                " another file: unpack it by `zstd -d -D DICTIONARY`, and name what was in it."
            ) from error
        raise damaged(path, kind) from error
    except OSError as error:
        # bz2 raises OSError without a number for damaged data.
        if error.errno is not None:
            raise
        raise damaged(path, kind) from error


class Unpacked:
    """The unpacked bytes of a file, for what asks for a number of them."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.blocks, self.rest = blocks(file, path), b""

    def read(self, size: int) -> bytes:
        while len(self.rest) < size and (block := next(self.blocks, b"")):
            self.rest += block
        found, self.rest = self.rest[:size], self.rest[size:]
        return found


def _zstd_stream() -> Any:
    import zstandard

    return zstandard.ZstdDecompressor(max_window_size=WINDOW).decompressobj()


STREAMS: dict[str, Callable[[], Any]] = {
    "zstd": _zstd_stream,
    "gzip": lambda: zlib.decompressobj(wbits=31),
    "bzip2": bz2.BZ2Decompressor,
    "xz": lzma.LZMADecompressor,
}


def without_end(unpacked: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the blocks that are not empty, without `END_OF_TEXT` behind the last one."""
    ends = b""
    for block in unpacked:
        if kept := block.rstrip(END_OF_TEXT):
            yield ends + kept
            ends = b""
        ends += block[len(kept) :]


def _from_streams(file: BinaryIO, path: Path, kind: str) -> Iterator[bytes]:
    stream, packed = None, b""
    while True:
        if stream is None:
            packed = packed.lstrip(b"\0")
            while len(packed) < START and (more := file.read(PACKED_BLOCK)):
                packed = (packed + more).lstrip(b"\0")
            if not packed:
                return
            found = packing_of(packed)
            if found != kind:
                if found != "none" or len(packed) + len(file.read(MOST_BEHIND)) > MOST_BEHIND:
                    raise damaged(path, kind)
                yield BEHIND
                return
            stream = STREAMS[kind]()
        elif not packed:
            raise cut_off(path)
        yield from _decompressed(stream, packed)
        packed, stream = (stream.unused_data, None) if stream.eof else (file.read(PACKED_BLOCK), stream)


def _decompressed(stream: Any, packed: bytes) -> Iterator[bytes]:
    """Yield what a stream makes of its next bytes; of bounded size where the library can."""
    if hasattr(stream, "needs_input"):
        yield stream.decompress(packed, BLOCK)
        while not (stream.eof or stream.needs_input):
            yield stream.decompress(b"", BLOCK)
    else:
        yield stream.decompress(packed)


def _from_zst_blocks(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Yield the rows of Arctic Shift's blocks as lines.

    A block is its packed size (uint32) and a zstd frame of the number of rows (uint32), offset and size of each row
    (uint32 each), and the rows: https://github.com/ArthurHeitmann/zst_blocks_format.
    """
    while head := file.read(4):
        if not head.strip(b"\0"):
            # Padding: no block is empty.
            continue
        packed = file.read(int.from_bytes(head, "little")) if len(head) == 4 else b""
        stream = _zstd_stream()
        content = stream.decompress(packed)
        if not stream.eof:
            raise cut_off(path)
        (rows,) = struct.unpack_from("<I", content)
        places = list(struct.iter_unpack("<II", content[4 : 4 + 8 * rows]))
        data = content[4 + 8 * rows :]
        if len(places) < rows or any(offset + size > len(data) for offset, size in places):
            raise damaged(path, "zst_blocks")
        yield b"".join(data[offset : offset + size] + b"\n" for offset, size in places)


def damaged(path: Path, kind: str) -> PipelineError:
    return PipelineError(
        f"{path.resolve()}, which the setting corpus names, is damaged: its {kind} data cannot be unpacked; fetch it"
        " again."
    )


def cut_off(path: Path) -> PipelineError:
    return PipelineError(
        f"{path.resolve()}, which the setting corpus names, ends in the middle, so the copy is incomplete: fetch it"
        " again."
    )
