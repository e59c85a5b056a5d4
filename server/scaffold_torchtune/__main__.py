"""`python -m scaffold_torchtune` is the command line."""

import sys

from scaffold_torchtune.cli import main

if __name__ == "__main__":
    sys.exit(main())
