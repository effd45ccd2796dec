"""EDM's pickles: E[x | x_t] of the networks spelt out, through EDM's own preconditioning; their code is never run."""

import math
from pathlib import Path

import pytest
import torch

from priors.adapters.foreign import Told
from priors.adapters.importing import assembled, import_prior
from priors.adapters.registry import read_checkpoint
from priors.card import load_prior
from priors.runtime.errors import InputError
from tests.support.command_line import mistake
from tests.support.priors.edm_network import EdmReference, edm_pickle
from tests.support.priors.foreign import ask, damaged, payloads, relative

EQUAL = 1e-5
NCSNPP = {"embedding_type": "fourier", "channel_mult_noise": 2, "resample_filter": [1, 3, 3, 1]}
PRESERVING = {"beta_d": 19.9, "beta_min": 0.1, "M": 1000, "epsilon_t": 1e-5}
EDM = {"sigma_min": 0, "sigma_max": float("inf"), "sigma_data": 0.5}
CASES = {
    "DDPM++": ("SongUNet", "EDMPrecond", EDM, {"augment_dim": 9}),
    "NCSN++": ("SongUNet", "EDMPrecond", {**EDM, "sigma_data": 0.7}, {**NCSNPP, "encoder_type": "residual"}),
    "skip": ("SongUNet", "VPPrecond", PRESERVING, {"encoder_type": "skip", "decoder_type": "skip"}),
    "VE": (
        "SongUNet",
        "VEPrecond",
        {"sigma_min": 0.02, "sigma_max": 100},
        {**NCSNPP, "decoder_type": "skip"},
    ),
    "ADM": ("DhariwalUNet", "EDMPrecond", EDM, {"attn_resolutions": [16, 4]}),
    "iDDPM": ("DhariwalUNet", "iDDPMPrecond", {"M": 1000}, {"outputs": 2}),
    "classes": ("SongUNet", "EDMPrecond", EDM, {"label_dim": 4}),
    "ADM classes": ("DhariwalUNet", "EDMPrecond", EDM, {"label_dim": 4}),
}


def told(**more) -> Told:
    return Told(**{"offset": 0.0, "scale": 1000.0, "unit": "HU", **more})


def cosine_levels(steps: int = 1000) -> torch.Tensor:
    """Return iDDPM's levels, largest first, zero last: betas of cos^2 cut at 0.999 (Nichol and Dhariwal 2021)."""

    def kept(j):
        return math.sin(0.5 * math.pi * j / steps / 1.008) ** 2

    levels = [0.0]
    for j in range(steps, 0, -1):
        levels.append(math.sqrt((levels[-1] ** 2 + 1) / max(kept(j - 1) / kept(j), 0.001) - 1))
    return torch.tensor(levels[::-1])


def preconditioned(network: EdmReference, wrapper: str, numbers: dict, x, s: float, **more):
    """Return D(x; s), by Table 1 of the paper."""
    if wrapper == "EDMPrecond":
        d = numbers["sigma_data"]
        output = network(x / math.sqrt(s**2 + d**2), math.log(s) / 4, **more)
        return d**2 / (s**2 + d**2) * x + s * d / math.sqrt(s**2 + d**2) * output
    if wrapper == "VEPrecond":
        return x + s * network(x, math.log(0.5 * s), **more)
    if wrapper == "VPPrecond":
        root = math.sqrt(0.1**2 + 2 * 19.9 * math.log(1 + s**2))
        number = 999 * (root - 0.1) / 19.9
    else:
        number = 999 - int((cosine_levels() - s).abs().argmin())
    return x - s * network(x / math.sqrt(s**2 + 1), number, **more)[:, : x.shape[1]]


def written(path: Path, case: str) -> EdmReference:
    kind, wrapper, numbers, arguments = CASES[case]
    network = EdmReference(kind, **arguments)
    buffers = {"u": cosine_levels()} if wrapper == "iDDPMPrecond" else {}
    path.write_bytes(edm_pickle(network, wrapper, attributes=numbers, buffers=buffers))
    return network


@pytest.mark.parametrize("case", CASES)
def test_every_network_and_preconditioning(case, tmp_path):
    _, wrapper, numbers, arguments = CASES[case]
    path, label = tmp_path / "network.pkl", {"label": 2} if "label_dim" in arguments else {}
    network = written(path, case)
    prior = assembled(read_checkpoint(path, told(**label)), told(**label), path)
    schedule, x = (
        prior.denoiser.schedule,
        torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(3)),
    )
    for s, next_s in ((0.06, 0.062), (1.0, 1.03), (9.0, 9.3)):
        if wrapper == "iDDPMPrecond":
            # It knows the levels of its steps; one off is the next.
            place = int((cosine_levels() - s).abs().argmin())
            s, next_s = float(cosine_levels()[place]), float(cosine_levels()[place - 1])
        u = x * (1 + s)
        t, later = (schedule.inverse(torch.tensor(level, dtype=torch.float64)) for level in (s, next_s))
        alpha = float(schedule(t)[0])
        wanted = preconditioned(network, wrapper, numbers, u, s, **label)
        assert relative(ask(prior.denoiser, alpha * u, float(t)), wanted) < EQUAL
        alpha = float(schedule(later)[0])
        assert relative(ask(prior.denoiser, alpha * u, float(later)), wanted) > 10 * EQUAL


@pytest.mark.filterwarnings("ignore:.*of the noise")
@pytest.mark.filterwarnings("ignore:.*leaving the noise")
def test_another_class_can_be_asked_for(tmp_path):
    network = EdmReference("SongUNet", label_dim=4, model_channels=8)
    (tmp_path / "c.pkl").write_bytes(edm_pickle(network, attributes=EDM))
    assembled(read_checkpoint(tmp_path / "c.pkl", told(label=2)), told(label=2), tmp_path / "c.pkl").save(
        tmp_path / "p"
    )
    with pytest.raises(InputError, match="label: found 4, this prior knows the classes 0 to 3"):
        load_prior(tmp_path / "p", label=4)
    x = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(3))
    prior = load_prior(tmp_path / "p", label=1)
    t = float(prior.denoiser.schedule.inverse(torch.tensor(1.0, dtype=torch.float64)))
    assert (
        relative(ask(prior.denoiser, x, t), preconditioned(network, "EDMPrecond", EDM, x, 1.0, label=1))
        < EQUAL
    )


@pytest.mark.filterwarnings("ignore:.*of the noise")
@pytest.mark.filterwarnings("ignore:.*leaving the noise")
def test_nothing_of_it_is_run_and_the_card_says_what_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = EdmReference("SongUNet", model_channels=8, augment_dim=9)
    (tmp_path / "network.pkl").write_bytes(edm_pickle(network, attributes=EDM))
    card = import_prior(tmp_path / "network.pkl", told(licence="CC BY-NC-SA 4.0"), out=tmp_path / "prior")
    assert not (tmp_path / "ran").exists()
    assert card.source.family == "edm"
    assert card.fit.size == card.shape == (16, 16)
    assert card.licence == "CC BY-NC-SA 4.0"
    assert "SongUNet in EDMPrecond" in card.source.notes
    assert any("augmentation" in note for note in card.source.notes)
    assert load_prior(tmp_path / "prior").card == card


def test_averaged_weights_come_first(tmp_path):
    path, first, last = tmp_path / "c.pkl", EdmReference("SongUNet"), EdmReference("SongUNet")
    last.weights = {key: torch.zeros_like(value) for key, value in last.weights.items()}
    filters = {key: value for key, value in first.weights.items() if key.endswith("resample_filter")}
    last.weights |= filters
    outer = edm_pickle(last, attributes=EDM)
    path.write_bytes(outer)
    assert not any(bool(v.any()) for k, v in read_checkpoint(path, told()).state.items() if "conv" in k)
    path.write_bytes(edm_pickle(first, attributes=EDM, net=None))
    assert any(bool(v.any()) for k, v in read_checkpoint(path, told()).state.items() if "conv" in k)


def line(path: Path, network: EdmReference, **more) -> str:
    path.write_bytes(edm_pickle(network, **{"attributes": EDM, **more}))
    with pytest.raises(InputError) as caught:
        assembled(read_checkpoint(path, told()), told(), path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_it_cannot_be(tmp_path):
    path = tmp_path / "c.pkl"
    assert "of the class 'Mine', expected one of EDMPrecond" in line(
        path, EdmReference("SongUNet"), wrapper="Mine"
    )
    assert "EDM2 is not supported" in line(path, EdmReference("SongUNet"), wrapper="Precond")
    other = EdmReference("SongUNet")
    other.kind = "Generator"
    assert "wraps a 'Generator'" in line(path, other)
    assert "sigma_data: found NoneType" in line(
        path, EdmReference("SongUNet"), attributes={**EDM, "sigma_data": None}
    )
    conditioned = EdmReference("SongUNet", channels=3)
    assert "conditioned on an image" in line(path, conditioned)
    network = EdmReference("SongUNet")
    network.arguments["num_blocks"] = 2
    assert "not those that its arguments describe" in line(path, network)
    network.arguments |= {"num_blocks": 1, "resample_filter": [1, 3, 3, 1]}
    assert "another filter" in line(path, network)
    network.arguments |= {"resample_filter": [1, 1], "model_channels": -4}
    assert "width" in line(path, network)
    network.arguments["model_channels"] = "many"
    assert "arguments that cannot be used" in line(path, network)
    assert "label: found None, this prior knows the classes 0 to 3" in line(
        path, EdmReference("SongUNet", label_dim=4)
    )


def test_weights_in_another_order_are_refused(tmp_path):
    network = EdmReference("SongUNet")
    names, values = list(network.weights), list(network.weights.values())
    network.weights = dict(zip(names, [*values[1:], values[0]], strict=True))
    assert "is (" in line(tmp_path / "c.pkl", network) or "filter" in line(tmp_path / "c.pkl", network)
    network = EdmReference("SongUNet")
    del network.weights["enc.16x16_block0.norm1.bias"]
    assert "1 tensors missing" in line(tmp_path / "c.pkl", network)
    network.weights["enc.16x16_block0.norm1.bias"] = torch.full((16,), math.nan)
    assert "NaN" in line(tmp_path / "c.pkl", network)


def test_fifty_damaged_pickles_are_one_line_each(tmp_path):
    data = edm_pickle(EdmReference("SongUNet", model_channels=4), attributes=EDM)
    options = ("--offset", 0, "--scale", 1000, "--unit", "HU", "--out", tmp_path / "prior")
    path, lines = tmp_path / "c.pkl", []
    for mutated in damaged(data, 75):
        path.write_bytes(mutated)
        try:
            assembled(read_checkpoint(path, told()), told(), path)
        except InputError as error:
            lines.append(str(error))
    # The others have other values in a tensor, which nobody can see.
    assert len(lines) >= 50
    assert all(each.startswith(str(path)) and "\n" not in each for each in lines)
    path.write_bytes(data[: len(data) // 2])
    assert mistake("import-prior", path, *options).startswith(f"error: {path}: is no pickle, or damaged")
    assert not (tmp_path / "prior").exists()


def test_calls_hidden_in_a_network_are_not_made(tmp_path):
    path, mark = tmp_path / "c.pkl", tmp_path / "marked"
    network = EdmReference("SongUNet", model_channels=4)
    for payload in payloads(mark):
        for data in (
            edm_pickle(network, attributes={**EDM, "hook": payload}),
            edm_pickle(network, attributes=EDM, extra=[payload]),
        ):
            path.write_bytes(data)
            with pytest.raises(InputError, match="asks to call"):
                read_checkpoint(path, told())
            assert not mark.exists()
