"""The names that `hpcnn.keras` and `hpcnn.torch` have in common, each fetched when it is first used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence

from hpcnn.comm.tensors.unsupported import UnsupportedNameError, unsupported_name

SHARED = {
    "hpcnn.comm.tensors.process_sets": [
        "ProcessSet",
        "add_process_set",
        "global_process_set",
        "process_set_by_id",
        "remove_process_set",
    ],
    "hpcnn.comm.tensors.reductions": ["Average", "Max", "Min", "Product", "Sum"],
    "hpcnn.comm.tensors.start": ["init"],
    "hpcnn.comm.tensors.world": [
        "ccl_built",
        "cross_rank",
        "cross_size",
        "cuda_built",
        "ddl_built",
        "gloo_built",
        "gloo_enabled",
        "is_homogeneous",
        "is_initialized",
        "local_rank",
        "local_size",
        "mpi_built",
        "mpi_enabled",
        "mpi_threads_supported",
        "nccl_built",
        "rank",
        "rocm_built",
        "shutdown",
        "size",
    ],
}
"""The names by the module that defines them."""


class LazyNames:
    """The names that a package offers, found in its modules.

    Args:
        package: as users import it.
        names: the names by the module that defines them.
        modules: of the package, which it offers by their names.
        instead: what to use in place of names that it does not have.
    """

    def __init__(
        self,
        package: str,
        names: Mapping[str, Sequence[str]],
        modules: Sequence[str] = (),
        instead: Mapping[str, str] | None = None,
    ) -> None:
        self._package, self._instead = package, instead or {}
        self._module_of = {name: module for module, own in names.items() for name in own}
        self._modules = tuple(modules)
        self.all = sorted([*self._modules, *self._module_of])
        """Every name."""

    def get(self, name: str) -> object:
        """Return what the package offers by this name.

        Raises:
            UnsupportedNameError: it offers nothing of that name.
        """
        if name in self._modules:
            return importlib.import_module(f"{self._package}.{name}")
        if name in self._module_of:
            return getattr(importlib.import_module(self._module_of[name]), name)
        if name.startswith("__"):
            raise AttributeError(name)
        raise self.unsupported(name)

    def unsupported(self, name: str) -> UnsupportedNameError:
        """Return the error for a name that the package does not have."""
        return unsupported_name(self._package, name, self.all, self._instead)
