"""What some containers held, for one who made them all and so need not look for them as a `Watch` does."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from threadline.history.watch import referents, same


class Snapshot:
    """Objects, dicts and lists as they are now; told unchanged by identity alone, as in a `Watch`.

    Of an object its `__dict__` and other slots are compared, not what stands in them: name every dict and list that
    an edit could reach. What is named is held on to.
    """

    __slots__ = ("_contents", "_dicts", "_holders", "_keys", "_lengths", "_sized")

    def __init__(
        self, objects: Sequence[Any], dicts: Sequence[dict[Any, Any]], lists: Sequence[list[Any]]
    ) -> None:
        self._dicts, self._sized = tuple(dicts), (*dicts, *lists)
        self._holders = (*objects, *self._sized)
        self._lengths, self._keys, self._contents = self._now()

    def unchanged(self) -> bool:
        """Whether each of them holds the same objects, under the same keys."""
        lengths, keys, contents = self._now()
        return (
            lengths == self._lengths and same(contents, self._contents) and same(keys, self._keys)
        )

    def _now(self) -> tuple[tuple[int, ...], tuple[object, ...], tuple[object, ...]]:
        return (
            tuple(map(len, self._sized)),
            tuple(chain.from_iterable(self._dicts)),
            tuple(referents(*self._holders)),
        )
