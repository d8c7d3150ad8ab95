"""Reading pickles that hold nothing but plain values and arrays of bytes; anything else is refused unexecuted.

numpy itself never sees the pickle: damaged array states can drive its C code into internal errors, so stand-ins
take down what the file says, and an array is made from that only after it was checked.
"""

from __future__ import annotations

import io
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from landscape.data.images import Pixels
from landscape.errors import DataError


class _Type:
    """Stands in for numpy.dtype."""

    def __init__(self, *arguments: Any) -> None:
        self.code = arguments[0] if arguments else None

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like, which single bytes don't have."""


class _Array:
    """Stands in for numpy.ndarray, and for the function that makes an empty one."""

    def __init__(self, *arguments: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> Pixels:
        """The array, if it is one of unsigned bytes."""
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise DataError("an array in it has no complete state")
        _, shape, kind, fortran, raw = self.state
        if not isinstance(kind, _Type) or kind.code not in (b"u1", "u1"):
            raise DataError("an array in it is not of uint8")
        if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise DataError("an array in it has no valid shape")
        if not isinstance(raw, bytes) or len(raw) != math.prod(shape):
            raise DataError("an array in it does not have as many values as its shape says")
        return np.frombuffer(raw, dtype=np.uint8).reshape(shape, order="F" if fortran else "C")


# All that an array's pickle calls: numpy 1 and numpy 2 name the same function differently.
_ALLOWED: dict[tuple[str, str], type] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
}

# What the unpickler raises on damaged bytes, found by changing bytes at random.
_DAMAGED = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    MemoryError,
)


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise DataError(f"it names {module}.{name}, which a file of arrays has no use for, and could run code")
        return _ALLOWED[module, name]


def read_pickle(path: Path, content: bytes) -> dict[str, Any]:
    """The dictionary in a pickle of Python 2 or 3: plain values, and uint8 arrays at its first level.

    Verify the file's checksum first: this is the second lock, not the first.

    Args:
        path: of the file, for messages.
        content: its bytes.

    Raises:
        DataError: the pickle is damaged, is no dictionary, holds arrays of another type, or names any class or
            function but numpy's array and its type.

    >>> read_pickle(Path("x"), pickle.dumps({"data": np.arange(3, dtype=np.uint8), b"labels": [1]}, protocol=4))
    {'data': array([0, 1, 2], dtype=uint8), 'labels': [1]}
    """
    try:
        loaded = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
        if not isinstance(loaded, dict):
            raise DataError(f"it holds a {type(loaded).__name__}, not a dictionary")
        keys = (key.decode("latin1") if isinstance(key, bytes) else str(key) for key in loaded)
        values = (value.array() if isinstance(value, _Array) else value for value in loaded.values())
        return dict(zip(keys, values, strict=True))
    except DataError as error:
        raise DataError(f"{path} was not loaded: {error}") from error
    except _DAMAGED as error:
        raise DataError(f"{path} is not a pickle of arrays ({type(error).__name__}: {error}); get it again") from error
