"""A node of a lineage: an artefact, the run that made it, and the artefacts above or below it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from adc_pipeline.core.store.manifests import Key


@dataclass(frozen=True)
class Node:
    """An artefact in a tree, the run that made it, and its upstream (`inputs`) or downstream (`outputs`) artefacts.

    `started` is in milliseconds since 1970, `path` is the artefact's location when it was made, `note` describes a
    problem with its run, and `models` are its versions in the registry (NAME/VERSION).
    """

    asset: str
    digest: str
    run: str | None
    tags: dict[str, str] = field(default_factory=dict)
    inputs: list["Node"] = field(default_factory=list)
    outputs: list["Node"] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    started: int | None = None
    server: str = ""
    path: str = ""
    note: str = ""
    models: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        return self.asset, self.digest

    def walk(self) -> Iterator["Node"]:
        """Yield every node of the tree once, starting with this node."""
        seen: set[Key] = set()
        waiting = [self]
        while waiting:
            node = waiting.pop()
            if node.key not in seen:
                seen.add(node.key)
                waiting += reversed(node.inputs + node.outputs)
                yield node

    def find(self, asset: str) -> "Node | None":
        """Return the first node of `asset` in the tree, which may be this node; None if there is none."""
        return next((node for node in self.walk() if node.asset == asset), None)
