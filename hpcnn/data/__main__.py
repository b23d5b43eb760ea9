"""``python -m hpcnn.data JOB``: see `hpcnn.check_data`."""

import sys

from hpcnn.check_data import main

if __name__ == "__main__":
    sys.exit(main())
