"""The main job, played through: an agent is killed in the middle of a turn, and resumes exactly where it stopped.

`agent` is an agent on Threadline as a user would write it; begin there. `tools` and `story` are what it works with,
`worker` is the process that it runs in, `play` starts that process, kills it, and checks what is left, and `scenes`
shows what the store knows afterwards. `servers` plays the same on PostgreSQL and Valkey.
"""

from __future__ import annotations

from threadline.demo.play import DemoError, run

__all__ = ["DemoError", "run"]
