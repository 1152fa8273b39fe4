"""Sketch texts: reduce each to a few numbers, of which near copies have most in common.

The sketch is a MinHash by one permutation (Li, Owen and Zhang 2012, "One Permutation Hashing"): each run of three words
has one hash, its highest bits choose one of 16 bins, and a bin keeps its smallest hash. The share of equal bins
estimates the Jaccard similarity of the runs. Words and runs are those of `near_duplicates`.

All words of a chunk of texts are hashed at once in NumPy: the sums of a polynomial hash over all characters are taken
once, and the hash of a word is a difference of two of them. Cutting each text into words, as a MinHash library wants
them, costs several times as much.

Cost: 12 ns of a core for a byte of ASCII, 20 ns for a character where others occur.
"""

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from adc_pipeline.corpus.near_duplicates import RUN, WORD

if TYPE_CHECKING:
    import numpy as np

BITS = 4
BINS = 2**BITS
EMPTY = 2**64 - 1
# Bytes hashed at once, in arrays that fit a processor's cache. A longer text is hashed whole.
CHUNK = 200_000

# An odd base has an inverse modulo 2**64.
BASE = 0x100000001B3


def unmarked() -> "np.ndarray":
    """Return False for each code point."""
    import numpy as np

    return np.zeros(sys.maxunicode + 1, dtype=bool)


@dataclass
class Sketches:
    """Sketches of texts; keeps the powers of its base, and which code points words consist of, from chunk to chunk."""

    rising: "np.ndarray | None" = field(default=None, repr=False)
    falling: "np.ndarray | None" = field(default=None, repr=False)
    # By code point: words consist of it, and that is known.
    in_words: "np.ndarray" = field(default_factory=unmarked, repr=False)
    known: "np.ndarray" = field(default_factory=unmarked, repr=False)

    def take(self, data: "np.ndarray", offsets: "np.ndarray") -> tuple["np.ndarray", "np.ndarray"]:
        """Return the bins (texts × 16, uint64, `EMPTY` where no run is), and one hash of all runs of each text.

        `data` are the texts' bytes (UTF-8, uint8), each text in lower case and with a space at its end; the text number
        i begins at `offsets[i]`, and `offsets` (int64) has one number more than there are texts. The hash of all runs
        is 0 for a text without words.
        """
        import numpy as np

        bins = np.full((len(offsets) - 1, BINS), EMPTY, dtype=np.uint64)
        whole = np.zeros(len(offsets) - 1, dtype=np.uint64)
        first = 0
        while first < len(whole):
            last = max(first + 1, int(np.searchsorted(offsets, offsets[first] + CHUNK, side="right")) - 1)
            words, owners = self.words(*self.code_points(data, offsets[first : last + 1]))
            hashes, owners = runs(words, owners, last - first)
            flat = bins[first:last].reshape(-1)
            np.minimum.at(flat, owners * BINS + (hashes >> np.uint64(64 - BITS)).astype(np.int64), hashes)
            np.add.at(whole[first:last], owners, hashes)
            first = last
        return bins, whole

    def code_points(self, data: "np.ndarray", offsets: "np.ndarray") -> tuple["np.ndarray", "np.ndarray"]:
        """Return the code points of texts in UTF-8, and where each text begins among them."""
        import numpy as np

        data, offsets = data[offsets[0] : offsets[-1]], offsets - offsets[0]
        if not len(data) or data.max() < 0x80:
            self.learn(np.arange(0x80))
            return data, offsets
        # A character begins with every byte that does not continue one.
        begun = np.concatenate(([0], np.cumsum((data & 0xC0) != 0x80)))
        code_points = np.frombuffer(data.tobytes().decode().encode("utf-32-le"), dtype=np.uint32)
        self.learn(code_points)
        return code_points, begun[offsets]

    def learn(self, code_points: "np.ndarray") -> None:
        """Note which of these code points words consist of."""
        for code_point in set(code_points[~self.known[code_points]].tolist()):
            self.known[code_point], self.in_words[code_point] = True, bool(WORD.match(chr(code_point)))

    def words(self, code_points: "np.ndarray", offsets: "np.ndarray") -> tuple["np.ndarray", "np.ndarray"]:
        """Return the hash of each word, and the number of its text."""
        import numpy as np

        outside = np.zeros(1, dtype=bool)
        inside = np.concatenate((outside, self.in_words[code_points], outside))
        edges = np.flatnonzero(inside[1:] != inside[:-1])
        begins, ends = edges[0::2], edges[1::2]
        rising, falling = self.powers(len(code_points) + 1)
        sums = np.zeros(len(code_points) + 1, dtype=np.uint64)
        np.cumsum(code_points * rising[: len(code_points)], out=sums[1:])
        return mixed((sums[ends] - sums[begins]) * falling[begins]), np.searchsorted(offsets, begins, side="right") - 1

    def powers(self, length: int) -> tuple["np.ndarray", "np.ndarray"]:
        """Return the powers of the base and of its inverse modulo 2**64, at least `length` of each."""
        import numpy as np

        if self.rising is None or self.falling is None or len(self.rising) < length:
            series = []
            for base in (BASE, pow(BASE, -1, 2**64)):
                factors = np.full(length, base, dtype=np.uint64)
                factors[0] = 1
                series.append(np.cumprod(factors))
            self.rising, self.falling = series
        return self.rising, self.falling


def runs(words: "np.ndarray", owners: "np.ndarray", count: int) -> tuple["np.ndarray", "np.ndarray"]:
    """Return the hash of each run of three words, and the number of its text; all words of a shorter text are one."""
    import numpy as np

    sizes = np.bincount(owners, minlength=count)
    begins = np.cumsum(sizes) - sizes
    place, size = np.arange(len(words)) - begins[owners], sizes[owners]
    hashes = words.copy()
    for step in range(1, RUN):
        following = np.concatenate((words[step:], np.zeros(min(step, len(words)), dtype=np.uint64)))
        hashes = mixed(hashes + np.uint64(step)) + np.where(place + step < size, following, 0)
    whole = (place + RUN <= size) | (place == 0)
    return mixed(hashes[whole]), owners[whole]


def mixed(hashes: "np.ndarray") -> "np.ndarray":
    """Return hashes in which each bit depends on all bits (the finalizer of MurmurHash3)."""
    import numpy as np

    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        hashes = (hashes ^ (hashes >> np.uint64(33))) * np.uint64(factor)
    return hashes ^ (hashes >> np.uint64(33))
