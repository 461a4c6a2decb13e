"""Threadline for LangGraph: `ThreadlineSaver`, a checkpointer that stores what is new.

Read `document` (what is stored), `plan` (what is new), `putting` and `reading` (the way in and out), then `saver`.
"""

from threadline.adapters.langgraph.saver import ThreadlineSaver
from threadline.adapters.langgraph.serde import StrictSerializer

__all__ = ["StrictSerializer", "ThreadlineSaver"]
