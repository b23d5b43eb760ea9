"""Side-by-side measurements, each rank on one thread; see README.md.

The numbers of threads are fixed here because a library reads its own as it is loaded.
"""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "HPCNN_THREADS"):
    os.environ[_name] = "1"
