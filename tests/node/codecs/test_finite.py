"""Whether all numbers are finite: beside Python's own answer for each."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gannet.node.codecs.finite import all_finite


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@given(values=st.lists(st.floats(width=32), max_size=20))
def test_all_finite_is_what_each_number_says(dtype: torch.dtype, values: list[float]) -> None:
    tensor = torch.tensor(values, dtype=torch.float32).to(dtype)
    assert all_finite(tensor) == all(math.isfinite(value) for value in tensor.tolist())
