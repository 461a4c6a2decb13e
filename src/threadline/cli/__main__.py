"""`python -m threadline.cli`."""

from __future__ import annotations

from threadline.cli import main

if __name__ == "__main__":
    main()
