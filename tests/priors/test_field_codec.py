"""The codec of fields: every variable by its own map."""

import math

import pytest
import torch

from priors.codec import FieldCodec, VariableCodec


def test_the_field_codec_treats_each_variable_by_its_own_map():
    codec = FieldCodec(
        variables=(
            VariableCodec(name="t", unit="K", offset=280.0, scale=4.0, low=200.0, high=340.0),
            VariableCodec(
                name="r",
                unit="mm/h",
                offset=0.5,
                scale=2.0,
                low=0.0,
                high=150.0,
                transform="log1p",
                reference=0.1,
            ),
        )
    )
    physical = torch.tensor([[[[284.0]], [[0.1 * (math.e - 1)]]]])
    torch.testing.assert_close(codec.encode(physical), torch.tensor([[[[1.0]], [[0.25]]]]))
    generator = torch.Generator().manual_seed(0)
    network = (
        torch.randn(2, 3, 2, 4, 5, generator=generator, dtype=torch.float64)
        + torch.tensor([0.0, 3.0])[:, None, None]
    )
    network[:, :, 1].clamp_(min=-0.24)
    torch.testing.assert_close(codec.encode(codec.decode(network)), network, rtol=1e-9, atol=1e-9)
    assert torch.isnan(codec.encode(torch.full((2, 1, 1), torch.nan))).all()
    assert codec.clip(torch.tensor([[[500.0]], [[-1.0]]])).flatten().tolist() == [340.0, 0.0]
    assert torch.autograd.gradcheck(codec.decode, (network[:1, :1].requires_grad_(True),))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"scale": 0.0}, "greater than 0"),
        ({"low": 5.0, "high": 1.0}, "must be below high"),
        ({"transform": "log1p"}, "must not be negative"),
    ],
)
def test_a_wrong_variable_map_is_refused(change, told):
    good = {"name": "h", "unit": "m", "offset": 0.0, "scale": 1.0, "low": -1.0, "high": 1.0}
    with pytest.raises(ValueError, match=told):
        VariableCodec.model_validate({**good, **change})
