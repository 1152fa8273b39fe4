"""Unpack a file by its first bytes, one block at a time: zstd, gzip, bzip2, xz, and Arctic Shift's zst_blocks.

Python's own file objects for gzip, bzip2 and xz and zstandard's reader are not used: some of them do not notice a
file that ends in the middle, or ignore what follows the last stream. Each packing here is a sequence of streams, and
the file must end with one. Memory holds a few blocks; a zstd frame may ask for a window of up to 2 GiB.
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

Packing = Literal["zstd", "gzip", "bzip2", "xz", "zst_blocks", "none"]

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
GZIP_MAGIC, BZIP2_MAGIC, XZ_MAGIC, LZMA_MAGIC = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x5d\x00\x00"


def packing(path: Path) -> Packing:
    """Return how a file is packed."""
    with path.open("rb") as file:
        return packing_of(file.read(16))


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
    """Yield the unpacked content of `file` without its byte order mark, at most `BLOCK` bytes at a time.

    `path` names the file in errors. Raises PipelineError where the file ends in the middle or is damaged.
    """
    import zstandard

    kind = packing_of(file.read(16))
    file.seek(0)
    if kind == "none":
        unpacked = iter(lambda: file.read(BLOCK), b"")
    elif kind == "zst_blocks":
        unpacked = _from_zst_blocks(file, path)
    else:
        unpacked = _from_streams(file, path, STREAMS[kind])
    try:
        for number, found in enumerate(filter(None, unpacked)):
            block = found.removeprefix(MARK) if not number else found
            for start in range(0, len(block), BLOCK):
                yield block[start : start + BLOCK]
    except (zstandard.ZstdError, zlib.error, lzma.LZMAError, EOFError, ValueError, struct.error) as error:
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


def _from_streams(file: BinaryIO, path: Path, start: Callable[[], Any]) -> Iterator[bytes]:
    stream = None
    while packed := file.read(PACKED_BLOCK):
        while packed:
            # Zeros between streams are padding.
            packed = packed if stream else packed.lstrip(b"\0")
            if not packed:
                break
            stream = stream or start()
            yield from _decompressed(stream, packed)
            packed = stream.unused_data if stream.eof else b""
            if stream.eof:
                stream = None
    if stream:
        raise cut_off(path)


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
