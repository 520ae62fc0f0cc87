"""A tree as the evaluation walks it, and the walk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from bots.conditions.tree import Condition


@dataclass(frozen=True, slots=True)
class Leaf:
    """A condition in a plan. ``path`` counts from 1 inside its group: "2.1"."""

    condition: Condition
    path: str
    is_crossing: bool
    negate: bool


@dataclass(frozen=True, slots=True)
class Branch:
    """A tree or group in a plan."""

    parts: tuple[Node, ...]
    is_and: bool
    negate: bool


Node = Leaf | Branch
"""A tree as the evaluation walks it: plain objects, as reading validated models at every price costs too much."""


def leaves(node: Node) -> Iterator[Leaf]:
    """Yield the conditions in reading order."""
    if isinstance(node, Leaf):
        yield node
    else:
        for part in node.parts:
            yield from leaves(part)


S = TypeVar("S")


def fold(
    node: Node,
    leaf: Callable[[Leaf], S],
    both: Callable[[S, S], S],
    either: Callable[[S, S], S],
    inverse: Callable[[S], S],
    nothing: S,
) -> S:
    """Return the state of ``node``: the one definition of joining and negating, for single states and for arrays."""
    if type(node) is Leaf:
        state = leaf(node)
    else:
        assert type(node) is Branch
        # Unknown rather than false, so that negating an empty group does not make it true.
        state = nothing
        for number, part in enumerate(node.parts):
            found = fold(part, leaf, both, either, inverse, nothing)
            state = found if number == 0 else both(state, found) if node.is_and else either(state, found)
    return inverse(state) if node.negate else state
