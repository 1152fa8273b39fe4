"""Pack token paths that share prefixes into rows in which every prefix stands once.

A path is a list of pieces (background, segment, marker, segment, …), and a piece a list of token ids. Sorted, the paths
of a conversation are the depth-first order of their tree. A row takes as many as fit; a row that starts in the middle
of a tree repeats only the path to there. A token sees its own ancestors and nothing else; since its descendants follow
it without a gap, one number per token states which tokens see it. Packing the sample's 2,400 queries takes 0.03 s and
gives 59,000 tokens instead of 183,000.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from adc_pipeline.evaluation.arrays import Ints

Path = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """The input of a forward pass over `length` tokens, and the places of the queries' last pieces in it."""

    tokens: Ints  # (length,) token ids
    positions: Ints  # (length,) distance from the path's first token
    follows: Ints  # (length,) place of the token before it in its path; -1 for a path's first
    reach: Ints  # (length,) the tokens j to reach[j] (exclusive) are token j's descendants and see it
    queries: Ints  # (queries,) indices of the paths
    starts: Ints  # (queries,) first place of the path's last piece
    ends: Ints  # (queries,) place after its last token
    lasts: Ints  # (queries,) place of the path's last token


@dataclass
class Node:
    """A piece and its place in a row's tree."""

    piece: int
    parent: int
    start: int
    end: int
    last: int
    position: int


class GrowingRow:
    """A row under construction; paths are added in sorted order."""

    def __init__(self, pieces: Sequence[Ints]) -> None:
        self.pieces = pieces
        self.nodes: list[Node] = []
        self.trail: list[int] = []  # nodes of the path added last
        self.length = 0
        self.queries: list[int] = []
        self.ends_at: list[int] = []

    def shared(self, path: Path) -> int:
        """Return how many leading pieces `path` shares with the path added last."""
        count = 0
        for node, piece in zip(self.trail, path, strict=False):
            if self.nodes[node].piece != piece:
                break
            count += 1
        return count

    def growth(self, path: Path) -> int:
        """Return how many tokens `path` would add to the row."""
        return sum(len(self.pieces[piece]) for piece in path[self.shared(path) :])

    def add(self, query: int, path: Path) -> None:
        del self.trail[self.shared(path) :]
        for piece in path[len(self.trail) :]:
            size = len(self.pieces[piece])
            parent = self.trail[-1] if self.trail else -1
            above = self.nodes[parent] if self.trail else Node(-1, -1, 0, 0, -1, 0)
            start, end = self.length, self.length + size
            last = end - 1 if size else above.last
            self.nodes.append(Node(piece, parent, start, end, last, above.position + above.end - above.start))
            self.trail.append(len(self.nodes) - 1)
            self.length = end
        self.queries.append(query)
        self.ends_at.append(self.trail[-1])

    def finished(self) -> Row:
        starts = np.array([node.start for node in self.nodes])
        ends = np.array([node.end for node in self.nodes])
        node_of = np.repeat(np.arange(len(self.nodes)), ends - starts)
        place = np.arange(self.length)
        offset = place - starts[node_of]
        above = np.array([self.nodes[node.parent].last if node.parent >= 0 else -1 for node in self.nodes])
        reach = ends.copy()
        for index in range(len(self.nodes) - 1, 0, -1):
            if (parent := self.nodes[index].parent) >= 0:
                reach[parent] = max(reach[parent], reach[index])
        ends_at = [self.nodes[index] for index in self.ends_at]
        return Row(
            tokens=np.concatenate([self.pieces[node.piece] for node in self.nodes]),
            positions=np.array([node.position for node in self.nodes])[node_of] + offset,
            follows=np.where(offset > 0, place - 1, above[node_of]),
            reach=reach[node_of],
            queries=np.array(self.queries),
            starts=np.array([node.start for node in ends_at]),
            ends=np.array([node.end for node in ends_at]),
            lasts=np.array([node.last for node in ends_at]),
        )


def packed(paths: Sequence[Path], pieces: Sequence[Ints], row_tokens: int) -> Iterator[Row]:
    """Yield rows of at most `row_tokens` tokens, or twice the length of their first path if that is more.

    Every path is in exactly one row. `row_tokens` 0 gives every path a row of its own. Longer rows repeat fewer
    prefixes; twice a path leaves room for its siblings.
    """
    row, limit = GrowingRow(pieces), 0
    for query in sorted(range(len(paths)), key=paths.__getitem__):
        path = paths[query]
        if row.queries and row.length + row.growth(path) > limit:
            yield row.finished()
            row = GrowingRow(pieces)
        row.add(query, path)
        if len(row.queries) == 1:
            limit = max(row_tokens, 2 * row.length) if row_tokens else 0
    if row.queries:
        yield row.finished()
