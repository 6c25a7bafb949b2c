"""Array types that the values of the model are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


Ints = NDArray[np.int64]


Bools = NDArray[np.bool_]


Records = NDArray[Any]
"""A structured array; its dtype is named where it is used (see ``kernel.layout``)."""
