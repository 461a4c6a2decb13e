"""Caches: each keeps opened states and lets the store decide whether they still hold."""
