"""`python -m tinygrad_wn` is the command `tinygrad-wn`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
