"""The public methods that open sessions and bind a checkpointer for injection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from threadline.checkpointer.calls import Calls
from threadline.checkpointer.injection import bind
from threadline.checkpointer.session import SessionOptions
from threadline.checkpointer.session_sync import Opening
from threadline.config import Config

_NAMES = ("thread_id", "user_id", "tenant", "app", "namespace", "run_id", "state_class")


class SessionCalls(Calls):
    """Sessions, and injection."""

    def session(self, config: Config | None = None, **settings: Any) -> Opening:
        """A session on one thread, for `async with` or `with`: the state is loaded, or made, when it is entered.

        config: as for every call; or its keys by name: `thread_id`, `user_id`, `tenant`, `app`, `namespace`, `run_id`,
        `state_class`. And the settings:

        - on_conflict: when another writer moved the thread: "raise" (default); "fork": what was done is put to a new
          thread, `session.thread_id` from then on; "reload": take the state that won (a node then runs on it again).
        - lease: None (default); "reject" or "wait": one run at a time, others are refused, or wait. ttl: seconds
          after which a lease that nobody renews can be taken over, default 30; it is renewed three times in each.
          lease_timeout: how long "wait" waits, seconds, default 60.
        - repair: "close" or "drop": mend open tool calls in `context` when the state is loaded.
        - container: what injection looks into for what is not a checkpointer; default: the current container.

        Entering raises LeaseHeldError, and what `aget_state` raises. TypeError and ValueError for bad settings.
        """
        if not isinstance(config, Mapping | None):
            raise TypeError(f"config must be a dict, not {type(config).__name__}")
        said = {name: settings.pop(name) for name in _NAMES if name in settings}
        given = {name: value for name, value in said.items() if value is not None}
        return Opening(self, {**(config or {}), **given}, SessionOptions(**settings))

    def bind(self, container: Any) -> None:
        """Bind this checkpointer in an injectq container: `Inject[BaseCheckpointer]` is served by it, also in plain
        calls of functions that have it as a default, where the container is the current or the default one.

        injectq's default objects keep what they find for the life of the process. So what they find follows the
        context: in a session its checkpointer, else that of the current container. Where several checkpointers are
        bound in a process and none is current, it raises InjectionError instead of taking one.
        """
        bind(self, container)
