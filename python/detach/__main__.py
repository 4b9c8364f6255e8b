"""The command `detach`."""

import sys

from detach.cli import main

if __name__ == "__main__":
    sys.exit(main())
