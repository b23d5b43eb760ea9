"""The names of what a scaling study measures."""

from __future__ import annotations

STRONG, WEAK = "strong", "weak"
KIND_TITLES = {STRONG: "Strong scaling", WEAK: "Weak scaling"}

HPCNN, ALLREDUCE, DDP, HOROVOD = "hpcnn", "allreduce", "ddp", "horovod"
RIVALS = (ALLREDUCE, DDP, HOROVOD)
"""What is measured beside hpcnn."""

LABELS = {HPCNN: "hpcnn", ALLREDUCE: "MPI_Allreduce", DDP: "PyTorch DDP", HOROVOD: "Horovod"}
"""How the page calls them."""
