"""``python -m flows.cli``: the command where the script ``overtile`` is not on the path."""

import sys

from .entry import main

if __name__ == "__main__":
    sys.exit(main())
