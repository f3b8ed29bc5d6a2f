"""`python chaos`: see `playing`."""

import sys
from pathlib import Path

# The deployment, the server of Postgres and the stand-in for DataHub are the tests' own.
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from playing import main

if __name__ == "__main__":
    sys.exit(main())
