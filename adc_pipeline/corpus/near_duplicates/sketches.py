"""Sketch texts: reduce each to a few numbers, of which near copies have most in common.

The sketch is a MinHash by one permutation (Li, Owen and Zhang 2012, "One Permutation Hashing"): each run of three words
has one hash, its highest bits choose one of 16 bins, and a bin keeps its smallest hash. The share of equal bins
estimates the Jaccard similarity of the runs. Words and runs are those of `minhash`.

All words of a chunk of texts are hashed at once in NumPy, eight bytes of each at a time. Cutting each text into words,
as a MinHash library wants them, costs several times as much.

Cost: 6 ns of a core for a byte of ASCII, 8 to 10 ns for one of other scripts.
"""

import hashlib
import sys
from functools import cache
from typing import TYPE_CHECKING

from adc_pipeline.corpus.near_duplicates.minhash import RUN

if TYPE_CHECKING:
    import numpy as np

BITS = 4
BINS = 2**BITS
EMPTY = 2**64 - 1
# Bytes hashed at once, in arrays that fit a processor's cache. A longer text is hashed whole.
CHUNK = 200_000

# Bytes of a word that are hashed at once, and those of a word that is long: such words are hashed one by one.
WINDOW, LONG = 8, 64
# Odd, so that no hash is lost by it.
FACTOR = 0x9E3779B97F4A7C15


def sketch(data: "np.ndarray", offsets: "np.ndarray") -> tuple["np.ndarray", "np.ndarray"]:
    """Return the bins (texts × 16, uint64, `EMPTY` where no run is), and one hash of all runs of each text.

    `data` are the texts' bytes (UTF-8, uint8), each text in lower case and with a space at its end; the text number i
    begins at `offsets[i]`, and `offsets` (int64) has one number more than there are texts. The hash of all runs is 0
    for a text without words.
    """
    import numpy as np

    bins = np.full((len(offsets) - 1, BINS), EMPTY, dtype=np.uint64)
    whole = np.zeros(len(offsets) - 1, dtype=np.uint64)
    first = 0
    while first < len(whole):
        last = max(first + 1, int(np.searchsorted(offsets, offsets[first] + CHUNK, side="right")) - 1)
        hashes, begins = words(data[offsets[first] : offsets[last]])
        counts = np.diff(np.searchsorted(begins, offsets[first : last + 1] - offsets[first]))
        hashes, texts = runs(hashes, np.repeat(np.arange(last - first), counts))
        flat = bins[first:last].reshape(-1)
        np.minimum.at(flat, texts * BINS + (hashes >> np.uint64(64 - BITS)).astype(np.int64), hashes)
        np.add.at(whole[first:last], texts, hashes)
        first = last
    return bins, whole


def words(data: "np.ndarray") -> tuple["np.ndarray", "np.ndarray"]:
    """Return the hash of each word in bytes of UTF-8, and where each begins."""
    import numpy as np

    # The last character and the last word are read as others are, with what follows them.
    padded = np.concatenate((data, np.zeros(WINDOW, dtype=np.uint8)))
    inside = np.concatenate(([False], in_words(padded)))
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    begins, ends = edges[0::2], edges[1::2]
    # The eight bytes from each byte on as a number, the first byte lowest.
    windows = np.ndarray((len(data) + 1,), dtype="<u8", buffer=padded.data, strides=(1,))
    masks = np.array([2 ** (8 * size) - 1 for size in range(WINDOW + 1)], dtype=np.uint64)
    sizes = ends - begins
    hashes = mixed(windows[begins] & masks[np.minimum(sizes, WINDOW)])
    for done in range(WINDOW, LONG, WINDOW):
        longer = np.flatnonzero(sizes > done)
        window = windows[begins[longer] + done] & masks[np.minimum(sizes[longer] - done, WINDOW)]
        hashes[longer] = mixed(hashes[longer] + window)
    for word in np.flatnonzero(sizes > LONG):
        digest = hashlib.blake2b(padded[begins[word] : ends[word]].tobytes(), digest_size=8).digest()
        hashes[word] = int.from_bytes(digest)
    return hashes, begins


def in_words(data: "np.ndarray") -> "np.ndarray":
    """Return for each byte of UTF-8, the last of which are zeros, whether it is of a letter, a digit or a `_`."""
    import numpy as np

    of_words = word_characters()
    inside = np.concatenate((of_words[:0x80], np.zeros(0x80, dtype=bool))).take(data)
    leads = np.flatnonzero(data >= 0xC0)
    if len(leads):
        lead = data[leads]
        sizes = 2 + (lead >= 0xE0) + (lead >= 0xF0)
        code_points = (lead & (0x7F >> sizes)).astype(np.uint32)
        for place in range(1, 4):
            code_points = np.where(sizes > place, code_points << 6 | data[leads + place] & 0x3F, code_points)
        inside[leads] = of_words.take(code_points)
        continuing = data[1:] & 0xC0 == 0x80
        for _ in range(1, 4):
            inside[1:] |= inside[:-1] & continuing
    return inside


@cache
def word_characters() -> "np.ndarray":
    """Return for each code point whether words consist of it: those that `\\w` of a regular expression finds."""
    import numpy as np

    found = np.strings.isalnum(np.arange(sys.maxunicode + 1, dtype=np.uint32).view("<U1"))
    found[ord("_")] = True
    return found


def runs(hashes: "np.ndarray", texts: "np.ndarray") -> tuple["np.ndarray", "np.ndarray"]:
    """Return the hash of each run of three words, and the number of its text; all words of a shorter text are one.

    `hashes` are those of the words, and `texts` the number of each word's text, in order.
    """
    import numpy as np

    whole = np.ones(len(texts), dtype=bool)
    whole[1:] = texts[1:] != texts[:-1]
    combined = hashes
    for step in range(1, RUN):
        same = np.zeros(len(texts), dtype=bool)
        same[:-step] = texts[step:] == texts[:-step]
        following = np.zeros(len(texts), dtype=np.uint64)
        following[:-step] = hashes[step:]
        combined = combined * np.uint64(FACTOR) + np.where(same, following, 0)
    return mixed(combined[whole | same]), texts[whole | same]


def mixed(hashes: "np.ndarray") -> "np.ndarray":
    """Return hashes in which each bit depends on all bits (the finalizer of MurmurHash3)."""
    import numpy as np

    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        hashes = (hashes ^ (hashes >> np.uint64(33))) * np.uint64(factor)
    return hashes ^ (hashes >> np.uint64(33))
