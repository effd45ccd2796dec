"""Familiar and strange slices against the familiarity of ct-chest-256: scores, ROC, verdicts.

    python benchmarks/quality/priors/strangers.py --out runs/strangers.json

Familiar: two slices at three heights of each of the eight patients the card knows (other slices than the card's), and
two patients of other scanners that neither prior nor card has seen. Strange: changes of the validation patient (HU
shifted, scaled, blurred, noisy, with metal, on wrong pixels, cut along another axis), real phantoms, and industrial
objects made here. Prints a table of scores and the area under the ROC curve.
"""

import argparse
import io
import json
import lzma
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.io import loadmat

from benchmarks.support.real_data import real_data
from priors.audits.familiarity import residual, score
from priors.card import load_prior
from recon.io.volumes.registry import read_volume

TRAIN = (
    "covidctmd_P001",
    "covidctmd_cap001",
    "covidctmd_normal001",
    "tcgathca_DE-A4MA",
    "cmbcrc_01068",
    "lungdx_A0002",
    "nlst_101287",
)
HELD_OUT = "covidctmd_cap002"
HEIGHTS = (0.3, 0.5, 0.7)
Case = tuple[str, bool, np.ndarray]


def patient(name: str) -> np.ndarray:
    split = "validation" if name == HELD_OUT else "train"
    path = real_data(f"ct/slices256/{split}/{name}.npy.xz")
    return np.load(io.BytesIO(lzma.open(path).read()))


def halved(values: np.ndarray) -> np.ndarray:
    """Return means of 2 x 2 pixels, as the prior's training slices are."""
    n, y, x = values.shape
    cut = np.maximum(values[:, : y // 2 * 2, : x // 2 * 2], -1024)
    return cut.reshape(n, y // 2, 2, x // 2, 2).mean((2, 4))


def familiar() -> Iterator[Case]:
    for name in (*TRAIN, HELD_OUT):
        slices = patient(name)
        for height in HEIGHTS:
            at = int(height * len(slices))
            yield f"{name} at {height:g}", False, slices[[at - 2, at + 3]]
    yield (
        "other scanner: R_004",
        False,
        halved(read_volume(real_data("ct/lungct_diagnosis_R_004.dcm")).values),
    )
    lung = read_volume(real_data("ct/elastix_3DCT_lung_baseline.mha")).values
    yield "other scanner: elastix", False, np.maximum(lung[[50, 80]], -1024)


def changed(x: np.ndarray) -> Iterator[Case]:
    """Yield what may be wrong with a correct scan."""
    for shift in (-200, -100, 100, 200):
        yield f"HU {shift:+d}", True, x + shift
    for scale in (0.7, 0.8, 1.2, 1.3):
        yield f"attenuation x {scale:g}", True, (x + 1000) * scale - 1000
    yield "HU halved", True, x / 2
    for pixels in (1, 2, 3):
        yield f"blurred {pixels} pixels", True, ndimage.gaussian_filter(x, (0, pixels, pixels))
    generator = np.random.default_rng(0)
    for noise in (30, 50, 100, 200):
        yield f"noise {noise} HU", True, x + noise * generator.standard_normal(x.shape)
    metal = x.copy()
    metal[:, 120:132, 120:132] = 3000
    angles = np.linspace(0, np.pi, 24, endpoint=False)
    v, u = np.mgrid[-126:130, -126:130]
    streaks = sum(
        np.exp(-((u * np.cos(a) + v * np.sin(a)) ** 2) / 8) * (-1) ** k for k, a in enumerate(angles)
    )
    yield "metal with streaks", True, metal + 250 * streaks
    yield "checkerboard of 40 HU", True, x + 40 * (-1.0) ** (u + v)
    yield "stripes of 60 HU", True, x + 60 * np.sin(u / 3)
    yield "pixels twice too large", True, halved(x)
    yield "pixels half too large", True, np.kron(x[:, 64:192, 64:192], np.ones((1, 2, 2)))
    yield "inverted", True, -x - 1000
    yield "gamma 0.5", True, 2000 * ((np.clip(x, -1000, 1000) + 1000) / 2000) ** 0.5 - 1000
    yield "only three values", True, np.select([x < -500, x < 200], [-1000.0, 0.0], 700.0)
    yield "smoothed to patches (TV-like)", True, ndimage.median_filter(x, (1, 7, 7))


def other_axes() -> Iterator[Case]:
    whole = patient("covidctmd_P001").astype(np.float32)
    yield "coronal", True, whole[:, [110, 140]].transpose(1, 0, 2)
    yield "sagittal", True, whole[:, :, [110, 140]].transpose(2, 0, 1)


def objects() -> Iterator[Case]:
    """Yield phantoms that were scanned, and industrial objects made here, in HU with plastic at 100 HU."""
    yield "Alderson phantom", True, halved(read_volume(real_data("ct/alderson_phantom.zip")).values[[2, 6]])
    catphan = read_volume(real_data("ct/catphan_slice_imageio_dicom_file01.dcm")).values
    yield "Catphan", True, halved(catphan)
    disc = loadmat(real_data("sinograms/htc2022/htc2022_solid_disc_full_recon_fbp.mat"))["reconFullFbp"]
    yield (
        "HTC disc (measured)",
        True,
        halved((disc / np.median(disc[disc > disc.max() / 2]) * 1100 - 1000)[None]),
    )
    v, u = np.mgrid[-128:128, -128:128]
    r = np.hypot(u, v)
    generator = np.random.default_rng(1)
    sponge = ndimage.gaussian_filter(generator.standard_normal((2, 256, 256)), (0, 3, 3))
    yield "porous rock", True, np.where((r < 110) & (sponge > -0.02), 1400.0, -1000.0)
    yield "steel washer", True, np.where((r < 100) & (r > 40), 3000.0, -1000.0)[None]
    yield "honeycomb", True, np.where((r < 110) & (np.cos(u / 4) * np.cos(v / 4) > 0), 300.0, -1000.0)[None]
    yield "bottle of water", True, np.where(r < 90, 0.0, -1000.0)[None]
    layers = np.where((abs(u) < 100) & (abs(v) < 60), 200 + 800 * (v // 8 % 2), -1000.0)
    yield "circuit board", True, layers[None]
    grains = ndimage.gaussian_filter(generator.standard_normal((1, 256, 256)), (0, 6, 6))
    yield "concrete", True, np.where(r < 115, 1000 + 8000 * grains, -1000.0)


def area(strange: list[float], known: list[float]) -> float:
    """Return the area under the ROC curve: how often a strange case scores above a familiar one."""
    wins = [(s > k) + 0.5 * (s == k) for s in strange for k in known]
    return float(np.mean(wins))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/strangers.json"))
    chosen = parser.parse_args()
    prior = load_prior("ct-chest-256")
    section = prior.card.familiarity
    assert section is not None
    x = patient(HELD_OUT)[[45, 85]].astype(np.float32)
    rows = []
    for name, is_strange, slices in (*familiar(), *changed(x), *other_axes(), *objects()):
        found = residual(prior, np.asarray(slices, np.float32), turn=False)
        value = None if found is None else score(found.figures, section.mean, section.deviation)
        rows.append({"case": name, "strange": is_strange, "score": value, "figures": found and found.figures})
        print(
            f"{name:<32} {'strange' if is_strange else 'familiar':<9} {value or float('nan'):6.2f}",
            flush=True,
        )
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(rows, indent=1))
    known = [row["score"] for row in rows if not row["strange"]]
    strange = [row["score"] for row in rows if row["strange"] and row["score"] is not None]
    print(
        f"{len(known)} familiar, {len(strange)} strange; area under the ROC curve {area(strange, known):.3f}"
    )
    for threshold in (2.0, 2.5, 3.0, 3.5, 4.0):
        hit, alarm = (np.mean([value > threshold for value in values]) for values in (strange, known))
        print(f"above {threshold:g}: {hit:.2f} of the strange, {alarm:.2f} of the familiar")


if __name__ == "__main__":
    main()
