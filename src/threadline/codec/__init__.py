"""Values to bytes and back: JSON with types, envelopes, rows, digests, terms and search words. Pure."""
