"""The structures and constants of hpcnn/kernels/operations.h for ctypes.

They are read from it and from the headers that it includes, so that they can't differ.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

KERNELS = Path(__file__).parents[2] / "hpcnn" / "kernels"

_NUMBERS = {
    "index_t": ctypes.c_int64,
    "int": ctypes.c_int,
    "int64_t": ctypes.c_int64,
    "double": ctypes.c_double,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
}


def _text(header: str) -> str:
    """Return a header with those that it includes, without comments."""
    text = re.sub(r"/\*.*?\*/", "", (KERNELS / header).read_text(), flags=re.DOTALL)
    return re.sub(r'^#include "(\w+\.h)"$', lambda found: _text(found[1]), text, flags=re.MULTILINE)


_TEXT = _text("operations.h")


def _fields(body: str) -> Iterator[tuple[str, Any]]:
    """Yield name and type of each field; a pointer, whatever it points to, is a `c_void_p`."""
    for declaration in filter(str.strip, body.split(";")):
        base, _, rest = re.sub(r"\b(const|struct)\b", "", declaration).strip().partition(" ")
        for declarator in rest.split(","):
            found = re.fullmatch(r"([*\s]*)(\w+)\s*(?:\[(\w+)\])?\s*", declarator)
            assert found, declaration
            stars, name, length = found.groups()
            kind: Any = ctypes.c_void_p if stars.strip() else _NUMBERS.get(base) or STRUCTURES[base]
            yield name, kind * int(length) if length else kind


def _structure(name: str, body: str) -> type[ctypes.Structure]:
    return type(name, (ctypes.Structure,), {"_fields_": list(_fields(body))})


STRUCTURES: dict[str, type[ctypes.Structure]] = {}
"""By name: product, weight_gradient, ..., shards."""
for _name, _body in re.findall(r"^struct (\w+) \{(.*?)^\};", _TEXT, flags=re.DOTALL | re.MULTILINE):
    if _name != "kernels":
        STRUCTURES[_name] = _structure(_name, _body)

CONSTANTS = {name: int(number) for name, number in re.findall(r"^#define (\w+) (\d+)$", _TEXT, flags=re.MULTILINE)}
CONSTANTS |= {
    name.strip(): number
    for names in re.findall(r"^enum \w+ \{([^#]*?)\};", _TEXT, flags=re.DOTALL | re.MULTILINE)
    for number, name in enumerate(filter(str.strip, names.split(",")))
}
"""By name: BLOCK_TERMS, LANES, RELU, MSE, ADAM, ..."""
