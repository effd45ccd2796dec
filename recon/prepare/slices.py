"""From CT volumes on disk to the prepared arrays that training reads.

A source is a folder of DICOM series (zip archives too), NIfTI, MetaImage or NRRD volumes, whose patients are found and
split; or a folder of NumPy slices with a ``MANIFEST.csv`` that says the split itself (`recon.prepare.table`).

    OUT/manifest.yaml       unit, and of every series: file, split, source, licence, pixel_mm, dz_mm
    OUT/NAME.npy            int16 HU (slice, y, x)

The folder appears when it is whole. Procedural thorax slices can be mixed in; their seeds stay below `DEMO_SEEDS`, so
that demonstrations and tests use phantoms no prior has seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int16
from omegaconf import OmegaConf

from priors.runtime.errors import InputError
from priors.runtime.files.writing import atomic_folder
from priors.runtime.progress import Progress
from priors.runtime.system.cluster import ALONE, Workers
from recon.prepare import table
from recon.prepare.axial import AxialSlices, UnsuitableError, axial_slices
from recon.prepare.patients import SeriesSource, find_series
from recon.prepare.settings import SliceSettings
from recon.prepare.split import SliceHashes, Split, numbered, split_patients
from recon.simulate.phantom.thorax import thorax

DEMO_SEEDS = 10_000
SLICES_PER_PHANTOM = 8
PHANTOM_SPACING_MM = 1.5
WIDE = 2.5
"""Ratio of pixel sizes above which a person should look: adults in full and in detailed fields differ by less."""


@dataclass(frozen=True)
class PreparedSeries:
    """Slices ready to be written; ``title`` is for messages, ``source`` and ``name`` for the prepared folder."""

    title: str
    name: str
    source: str
    split: Split
    values: Int16[np.ndarray, "z y x"]
    pixel_mm: float
    dz_mm: float | None


@dataclass
class PrepareReport:
    """What was prepared and what was left out, for a person.

    Attributes:
        series: entries of the manifest.
        left_out: a sentence for every series that was not taken.
    """

    series: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return a few lines: series, patients and slices of each split, spacings, and what was left out."""
        lines = []
        for split in ("train", "validation"):
            own = [entry for entry in self.series if entry["split"] == split]
            sources = len({entry["source"] for entry in own})
            slices = sum(entry["slices"] for entry in own)
            lines.append(f"{split}: {slices} slices, {len(own)} series of {sources} sources")
        spacings = [entry["pixel_mm"] for entry in self.series]
        lines.append(f"pixels: {min(spacings):.4g} to {max(spacings):.4g} mm")
        if max(spacings) > WIDE * min(spacings):
            lines.append(
                "the pixels differ much: a prior knows one scale; --pixel-mm LOW HIGH leaves series out"
            )
        return "\n".join([*lines, *(f"left out: {sentence}" for sentence in self.left_out)])


def prepare_slices(
    source: Path, out: Path, settings: SliceSettings, *, work: Workers = ALONE
) -> PrepareReport:
    """Write a prepared folder and return what it holds.

    Args:
        source: folder of volumes, or of arrays with ``MANIFEST.csv``.
        out: folder to write, new or empty.
        settings: licence, split, and what is taken.
        work: who reads the series.

    Raises:
        InputError: nothing usable, too few patients to split, a damaged file, values that are not HU, the same slice
            in both splits, or ``out`` holds something.
    """
    report = PrepareReport()
    hashes = SliceHashes()
    series = _listed(source) if (source / table.NAME).is_file() else _found(source, settings, report, work)
    with atomic_folder(out) as folder:
        for prepared in series:
            hashes.add(prepared.values, prepared.split, prepared.title)
            report.series.append(_save(folder, prepared, settings.licence))
        if settings.phantoms:
            report.series.append(_save_phantoms(folder, settings.phantoms))
        _check_splits(source, report)
        # The number of slices is in the arrays; the manifest does not say it twice.
        rows = [{key: value for key, value in row.items() if key != "slices"} for row in report.series]
        OmegaConf.save(OmegaConf.create({"unit": "HU", "series": rows}), folder / "manifest.yaml")
    return report


def _check_splits(source: Path, report: PrepareReport) -> None:
    lacking = {"train", "validation"} - {row["split"] for row in report.series}
    if lacking:
        examples = "; ".join(report.left_out[:3])
        raise InputError(
            f"{source}: found no usable slices for {' and '.join(sorted(lacking))}"
            + (f" ({examples})" if examples else "")
        )


def _listed(source: Path) -> Iterator[PreparedSeries]:
    """Yield the arrays of a table; the split and the name of each file below it name the array."""
    for row in table.listed(source):
        stem = Path(row.title).name.split(".")[0]
        yield PreparedSeries(
            row.title, f"{row.split}-{stem}.npy", stem, row.split, row.read(), row.pixel_mm, row.dz_mm
        )


def _found(
    source: Path, settings: SliceSettings, report: PrepareReport, work: Workers
) -> Iterator[PreparedSeries]:
    """Yield the usable series of a folder of volumes, patient by patient."""
    every, others = find_series(source, settings)
    if others:
        report.left_out.append(f"{others} series that are scouts, reports or other modalities")
    patients = [item.patient for item in every]
    splits = split_patients(
        patients, share=settings.validation, hold_out=settings.hold_out, seed=settings.seed
    )
    numbers = numbered(patients, settings.seed)
    taken: dict[int, int] = {}
    with Progress(len(every), "prepare") as progress:
        every = sorted(every, key=lambda each: numbers[each.patient])
        read = work.ordered(partial(_read, settings=settings), every)
        for item, slices in zip(every, read, strict=True):
            number = numbers[item.patient]
            progress.step()
            if isinstance(slices, str):
                report.left_out.append(f"patient {number:03d}: {slices}")
                continue
            taken[number] = taken.get(number, 0) + 1
            name, source_name = f"patient-{number:03d}-{taken[number]}.npy", f"patient {number:03d}"
            yield PreparedSeries(
                item.title,
                name,
                source_name,
                splits[item.patient],
                slices.values,
                slices.pixel_mm,
                slices.dz_mm,
            )


def _read(item: SeriesSource, settings: SliceSettings) -> AxialSlices | str:
    """Return a series, or the reason why it is left out."""
    try:
        slices = axial_slices(item.read(), item.title, reduce=settings.reduce)
        return _unwanted(slices.values.shape[0], slices.pixel_mm, settings) or slices
    except UnsuitableError as error:
        return str(error)
    except InputError as error:
        if not settings.skip_unreadable:
            raise
        return str(error)


def _unwanted(count: int, pixel_mm: float, settings: SliceSettings) -> str | None:
    if count < settings.min_slices:
        return f"a series of {count} slices, expected {settings.min_slices} at least"
    if settings.pixel_mm is not None and not settings.pixel_mm[0] <= pixel_mm <= settings.pixel_mm[1]:
        low, high = settings.pixel_mm
        return f"pixels of {pixel_mm:.4g} mm, expected {low:g} to {high:g} mm"
    return None


def _save(folder: Path, prepared: PreparedSeries, licence: str) -> dict[str, Any]:
    path = folder / prepared.name
    if path.exists():
        raise InputError(
            f"{prepared.title}: another series of the same split is called {prepared.source!r} too"
        )
    np.save(path, prepared.values)
    entry = {"file": prepared.name, "split": prepared.split, "source": prepared.source, "licence": licence}
    spacing = {"pixel_mm": float(f"{prepared.pixel_mm:.7g}")}
    if prepared.dz_mm is not None:
        spacing["dz_mm"] = float(f"{prepared.dz_mm:.7g}")
    return {**entry, **spacing, "slices": len(prepared.values)}


def _save_phantoms(folder: Path, count: int) -> dict[str, Any]:
    """Write ``count`` slices, each few of another phantom, thick steps apart so that they differ."""
    blocks = []
    for seed in range(-(-count // SLICES_PER_PHANTOM)):
        volume = thorax(
            seed,
            shape=(SLICES_PER_PHANTOM, 256, 256),
            voxel_mm=(20.0, PHANTOM_SPACING_MM, PHANTOM_SPACING_MM),
        )
        blocks.append(np.round(volume).astype(np.int16))
    np.save(folder / "phantoms.npy", np.concatenate(blocks)[:count])
    return {
        "file": "phantoms.npy",
        "split": "train",
        "source": "recon.simulate.phantom.thorax.thorax",
        "licence": "Apache-2.0",
        "pixel_mm": PHANTOM_SPACING_MM,
        "slices": count,
    }
