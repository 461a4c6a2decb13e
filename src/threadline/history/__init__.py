"""Ranges over logs: what changed, delta, fold, merge, retention, diff (pure)."""
