"""Adapters: other frameworks on Threadline, each on the public API alone."""
