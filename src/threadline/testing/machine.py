"""`CheckpointerMachine`: a Hypothesis state machine that plays against a checkpointer and a plain dict model.

    class MyMachine(CheckpointerMachine):
        def open(self):
            return MyCheckpointer(...)

    def test_machine():
        play(MyMachine)

A run puts, edits, appends, names, rolls back, forks, prunes, deletes, redacts, erases, retries, restarts and moves to
another store, as several users, through the async or the sync face; after every step, heads, histories, messages and
lists of threads are those of the model. Time and randomness are fixed, so that a failure comes again. About 2,000
steps; 20,000 with the environment variable THREADLINE_SOAK=1.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, run_state_machine_as_test

from threadline.testing.machine_base import PLACES, agree, agree_on_checkpoint, config_of
from threadline.testing.machine_messages import MessageRules
from threadline.testing.machine_past import PastRules
from threadline.testing.machine_states import StateRules
from threadline.testing.machine_threads import ThreadRules, timeless
from threadline.testing.model import Place, Space

#: Steps of one run, and of all runs, short and long.
RUN, SHORT, LONG = 50, 2_000, 20_000
#: Steps of a part: Hypothesis remembers what it tried, 2 MB a run, and forgets it between two parts.
PART = 2_000


class CheckpointerMachine(StateRules, MessageRules, ThreadRules, PastRules):
    """The machine. A subclass gives `open`, and where the store survives its checkpointer, `durable` and `reopen`."""

    @initialize(face=st.sampled_from(["sync", "async"]))
    def begin(self, face: str) -> None:
        """Every run plays through one face."""
        if face == "async":
            self.loop = asyncio.new_event_loop()

    @invariant()
    def all_is_as_the_model_says(self) -> None:
        """Heads, histories, messages and threads."""
        type(self).steps += 1
        turn = self.steps
        for number, place in enumerate(PLACES):
            space = self.world.space(place, None)
            self._head_is(place, space)
            config = config_of(place, None)
            history = self.read("alist_checkpoints", config)
            versions = sorted(space.versions.values(), key=lambda each: -each.version)
            assert len(history) == len(versions), (
                f"{place}: {history} where the model says {versions}"
            )
            for real, model in zip(history, versions, strict=True):
                agree_on_checkpoint(real, model)
            messages = self.read("alist_messages", config)
            agree(f"messages of {place}", messages, [kept.read() for kept in space.log])
            if (turn + number) % len(PLACES) == 0:
                self._past_is(place, space, turn)
        threads = [timeless(info) for info in self.read("alist_threads", {})]
        agree("threads", threads, self.world.listed(None))

    def _head_is(self, place: Place, space: Space) -> None:
        version = space.versions.get(space.head)
        state = version.state if version else None
        config = config_of(place, None, state_class=type(state) if state is not None else dict)
        agree(f"head of {place}", self.read("aget_state", config), state)
        if (self.steps + len(place[1])) % 2:
            cold = self.call(self.cold, "aget_state", config)
            agree(f"head of {place}, read without a cache", cold, state)

    def _past_is(self, place: Place, space: Space, turn: int) -> None:
        for number, version in space.versions.items():
            if version.state is None or (number + turn) % 3:
                continue
            config = config_of(place, None, version=number, state_class=version.kind)
            agree(f"version {number} of {place}", self.read("aget_state", config), version.state)


def play(machine: type[CheckpointerMachine], steps: int | None = None, **options: Any) -> int:
    """Play a machine for about so many steps; prints and returns how many they were.

    steps: 2,000, or 20,000 with THREADLINE_SOAK=1. options: settings of Hypothesis, e.g. `derandomize=False`.
    """
    wanted = steps or (LONG if os.environ.get("THREADLINE_SOAK") == "1" else SHORT)
    before = machine.steps
    chosen: dict[str, Any] = {
        "stateful_step_count": RUN,
        "derandomize": True,
        "database": None,
        "deadline": None,
        "suppress_health_check": list(HealthCheck),
        **options,
    }
    for number, start in enumerate(range(0, wanted, PART)):
        part = min(PART, wanted - start)
        # Other runs than those of the parts before.
        played_as = seed(number)(machine) if number else machine
        given = {"max_examples": max(1, part // 35), **chosen}  # Many runs end a little early.
        run_state_machine_as_test(played_as, settings=settings(**given))
    played = machine.steps - before
    print(f"{machine.__name__}: {played} steps")  # noqa: T201 - the figure of this exam
    return played
