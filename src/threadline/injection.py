"""Injection: calling functions that want a checkpointer. `checkpointer.bind(container)` is the other half."""

from threadline.checkpointer.injection import call, injected, using

__all__ = ["call", "injected", "using"]
