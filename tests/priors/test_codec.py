"""The codec: an affine map there and back, and the ranges it refuses."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from priors.codec import Codec, FieldCodec, VariableCodec

offsets = st.floats(-2000, 2000)
scales = st.floats(1e-3, 1e4)
values = st.lists(st.floats(-5000, 5000, width=32), min_size=1, max_size=20)


@given(offset=offsets, scale=scales, physical=values)
def test_decode_undoes_encode(offset, scale, physical):
    codec = Codec(offset=offset, scale=scale, low=-1024, high=1500)
    x = torch.tensor(physical, dtype=torch.float64)
    # Rounding is relative to the largest intermediate value, |x| + |offset|.
    torch.testing.assert_close(
        codec.decode(codec.encode(x)), x, rtol=0, atol=4e-16 * (7000 + 2 * abs(offset))
    )


@given(offset=offsets, scale=scales, network=st.lists(st.floats(-3, 3), min_size=1, max_size=20))
def test_encode_undoes_decode(offset, scale, network):
    codec = Codec(offset=offset, scale=scale, low=-1024, high=1500)
    x = torch.tensor(network, dtype=torch.float64)
    tolerance = 4e-16 * (3 + abs(offset) / scale) * 4
    torch.testing.assert_close(codec.encode(codec.decode(x)), x, rtol=0, atol=tolerance)


def test_the_units_of_the_default_prior():
    codec = Codec(offset=0.0, scale=1000.0, low=-1024.0, high=1500.0)
    hounsfield = torch.tensor([-1000.0, 0.0, 40.0])
    torch.testing.assert_close(codec.encode(hounsfield), torch.tensor([-1.0, 0.0, 0.04]))


@given(offset=offsets, scale=scales)
def test_a_linear_operator_absorbs_the_map(offset, scale):
    codec = Codec(offset=offset, scale=scale, low=-1, high=1)
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    x = torch.randn(4, generator=generator, dtype=torch.float64)
    split = codec.scale * (A @ x) + codec.offset * (A @ torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(A @ codec.decode(x), split, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "mistake", [{"scale": 0.0}, {"scale": -1.0}, {"low": 1500.0, "high": -1024.0}, {"low": 1.0, "high": 1.0}]
)
def test_an_impossible_range_is_refused(mistake):
    right = {"offset": 0.0, "scale": 1000.0, "low": -1024.0, "high": 1500.0}
    with pytest.raises(ValidationError):
        Codec.model_validate(right | mistake)


def test_analyses_are_cut_to_what_is_possible():
    rain = VariableCodec(
        name="rain", unit="mm/h", offset=0.0, scale=1.0, low=0.0, high=150.0, minimum=0.0, transform="log1p"
    )
    warmth = VariableCodec(name="t2m", unit="K", offset=280.0, scale=2.0, low=250.0, high=310.0)
    codec = FieldCodec(variables=(rain, warmth))
    state = torch.tensor([-1.0, 7.0, 1e6])[:, None, None, None].expand(3, 2, 1, 1)
    # A temperature beyond those of the training stays as it is: nothing makes it impossible.
    expected = torch.tensor([[0.0, -1.0], [7.0, 7.0], [150.0, 1e6]])[..., None, None]
    assert torch.equal(codec.clip_to_physical(state), expected)
