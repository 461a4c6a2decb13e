"""Injection: calling functions that want a checkpointer. `checkpointer.bind(container)` is the other half."""

from threadline.checkpointer.injection import call, using

__all__ = ["call", "using"]
