"""Hypothesis strategy for altered records of the store: a valid one with other values, with more, or without some."""

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

VALUES: list[Any] = [
    None, True, 0, -1, 1.5, 1e308, 2**70, "", "x", "../x", "/etc/passwd", "\0", "\ud800", [], [[]], {}, {"a": 1}
]  # fmt: skip


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where there is a value in a value of JSON, as the names and numbers that lead to it."""
    yield place
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield from places(each, (*place, name))


@st.composite
def altered(draw: st.DrawFn, record: dict[str, Any]) -> Any:
    """Draw a record in which one or two values are replaced, removed or added."""
    changed: Any = copy.deepcopy(record)
    # A copy, which a later change may be inside of.
    other = st.sampled_from(VALUES).map(copy.deepcopy)
    for _ in range(draw(st.integers(1, 2))):
        *way, last = draw(st.sampled_from(list(places(changed))[1:] or [("x",)]))
        holder = changed
        for name in way:
            holder = holder[name]
        change = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if change == "add" and isinstance(holder, dict):
            holder[draw(st.sampled_from(["x", "..", "", "/etc/passwd", "a/../../b"]))] = draw(other)
        elif change == "remove" and holder:
            holder.pop(last, None) if isinstance(holder, dict) else holder.pop()
        elif isinstance(holder, dict) or last < len(holder):
            holder[last] = draw(other)
    return changed
