"""A snapshot tells whether containers hold what they held: by identity, at every place that it names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import threadline.history.snapshot as module
import threadline.history.watch as watch
from threadline.store import Snapshot


@pytest.fixture(params=["fast", "plain"], autouse=True)
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "plain":
        monkeypatch.setattr(module, "same", watch._same_plain)
        monkeypatch.setattr(module, "referents", watch._referents_plain)


class Thing:
    def __init__(self) -> None:
        self.names: list[Any] = [1, "a"]
        self.facts: dict[str, Any] = {"a": 0.0, "b": None}


def replaced(thing: Thing) -> None:
    thing.__dict__ = dict(thing.__dict__)


EDITS: list[Callable[[Thing], Any]] = [
    lambda t: t.names.append(1),
    lambda t: t.names.__setitem__(0, True),
    lambda t: t.names.reverse(),
    lambda t: t.names.clear(),
    lambda t: t.facts.update(a=-0.0),
    lambda t: t.facts.update(c=1),
    lambda t: t.facts.update(c=t.facts.pop("b")),
    lambda t: setattr(t, "names", list(t.names)),
    lambda t: setattr(t, "more", 1),
    lambda t: delattr(t, "facts"),
    replaced,
]


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_is_seen(edit: Callable[[Thing], Any]) -> None:
    thing, other = Thing(), Thing()
    things = [other, thing]
    snapshot = Snapshot(
        things,
        [each for t in things for each in (t.__dict__, t.facts)],
        [t.names for t in things],
    )
    assert snapshot.unchanged()
    edit(thing)
    assert not snapshot.unchanged()
