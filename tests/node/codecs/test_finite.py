"""Whether all numbers are finite: beside Python's own answer for each."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gannet.node.codecs.cast import CastCodec
from gannet.node.codecs.finite import all_finite


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@given(values=st.lists(st.floats(width=32), max_size=20))
def test_all_finite_is_what_each_number_says(dtype: torch.dtype, values: list[float]) -> None:
    tensor = torch.tensor(values, dtype=torch.float32).to(dtype)
    assert all_finite(tensor) == all(math.isfinite(value) for value in tensor.tolist())


@pytest.mark.parametrize("last", [0.0, math.inf, -math.inf, math.nan])
def test_values_whose_sum_exceeds_float32_are_judged_by_themselves(last: float) -> None:
    tensor = torch.tensor([3e38] * 1000 + [last])
    assert all_finite(tensor) == math.isfinite(last)


@pytest.mark.parametrize("name", ["fp32", "fp16", "bf16"])
@given(values=st.lists(st.floats(width=16, allow_nan=False), max_size=20), writable=st.booleans())
def test_a_view_of_a_payload_has_the_values_that_are_decoded(name: str, values: list[float], writable: bool) -> None:
    codec = CastCodec(name)
    payload = bytes(codec.encode(torch.tensor(values)))
    body = memoryview(bytearray(payload) if writable else payload)
    assert torch.equal(codec.view(body), codec.decode(body))
    assert bytes(body) == payload
