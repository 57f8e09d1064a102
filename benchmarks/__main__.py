"""`python -m benchmarks [NAME ...]`: each measures against a peer in the same run, and prints ratios."""

from __future__ import annotations

import importlib
import sys

NAMES = ("database", "large", "backfill", "safety", "compat", "launcher", "image")


def main() -> None:
    """Run the benchmarks that are named, or all of them."""
    for name in sys.argv[1:] or NAMES:
        print(f"\n{name}", flush=True)
        for line in importlib.import_module(f"benchmarks.{name}").run():
            print(f"  {line}", flush=True)


if __name__ == "__main__":
    main()
