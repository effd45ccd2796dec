"""A measured or simulated scan in memory: what every scan reader returns.

``frame`` maps the scanner's millimetres (x, y, z) to the patient's (right, anterior, superior). A
reconstruction on a grid is placed in the patient by ``frame @ grid_affine(grid)``: simulated from an image,
it overlays that image.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Float32, Float64, Real

from priors.runtime.errors import InputError
from recon.data.noise import Exposure, estimate_i0, line_integrals, weights_without_counts
from recon.data.units import MU_WATER
from recon.data.volume import Unit, as_float32, check_affine, grid_affine
from recon.geometry.grid import Grid
from recon.geometry.scan import Index, ScanGeometry
from recon.geometry.suggestion import suggested_grid


@dataclass(frozen=True, eq=False)
class Scan:
    """Line integrals with their statistics and geometry.

    Attributes:
        sinogram: line integrals of attenuation (view, row, column), dimensionless; float64 is stored as float32.
        geometry: poses of the views.
        grid: suggested grid of the reconstruction; by default `suggested_grid` of the geometry.
        weights: inverse variances of ``sinogram``; 0 where a pixel is bad. By default those of the photons that
            explain its noise (`estimate_i0`).
        counts: photons per ray where the detector's counts are known, else None.
        exposure: how ``counts`` were made; given exactly when ``counts`` are.
        frame: scanner mm (x, y, z) to patient RAS mm.
        mu_water: attenuation of water in 1/mm for the conversion to HU.
        unit: unit of a reconstruction written to a file.
        provenance: where the data comes from, without anything about a patient.
        warnings: what a reader had to assume or leave out, one sentence each.
        whole: geometry and grid of all rows where only some in their middle were read, for a plan or a look.
        partial: some rows of a scan, which may see no object although the others do.

    Raises:
        InputError: shapes disagree with the detector or the slices, values are NaN, or weights negative.
    """

    # Whether the shapes agree is for __post_init__ to say, in words; it also fills what is None.
    sinogram: Float[np.ndarray, "_ _ _"]
    geometry: ScanGeometry
    grid: Grid = None  # type: ignore[assignment]
    weights: Float[np.ndarray, "_ _ _"] = None  # type: ignore[assignment]
    counts: Real[np.ndarray, "_ _ _"] | None = None
    exposure: Exposure | None = None
    frame: Float64[np.ndarray, "4 4"] = field(default_factory=lambda: np.eye(4))
    mu_water: float = MU_WATER
    unit: Unit = "HU"
    provenance: Mapping[str, object] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    whole: tuple[ScanGeometry, Grid] | None = None
    partial: bool = False

    def __post_init__(self) -> None:
        self._complete()
        check_affine(self.frame, "frame")
        check_slices(self.geometry, self.grid)
        if not (np.isfinite(self.mu_water) and self.mu_water > 0):
            raise InputError(f"mu_water: found {self.mu_water}, expected a positive number in 1/mm")
        if (self.counts is None) != (self.exposure is None):
            raise InputError("scan: counts and their exposure (i0) must be given together")
        for name in ("sinogram", "weights", "counts"):
            array = getattr(self, name)
            if array is not None:
                check_sinogram_shape(array, self.geometry, name)
        check_line_integrals(self.sinogram, self.weights)
        if not self.partial:
            check_seen(self.sinogram, self.weights)

    def _complete(self) -> None:
        """Store arrays as float32, and fill the grid and the weights where none were given."""
        for name in ("sinogram", "weights", "counts"):
            array = getattr(self, name)
            if array is not None:
                object.__setattr__(self, name, as_float32(array, name))
        object.__setattr__(self, "frame", np.asarray(self.frame, np.float64))
        check_sinogram_shape(self.sinogram, self.geometry, "sinogram")
        if self.grid is None:
            object.__setattr__(self, "grid", suggested_grid(self.geometry))
        if self.weights is None:
            check_line_integrals(self.sinogram, np.ones_like(self.sinogram))
            check_seen(self.sinogram, np.ones(1, np.float32))
            weights = weights_without_counts(self.sinogram, estimate_i0(self.sinogram))
            object.__setattr__(self, "weights", weights)

    def __repr__(self) -> str:
        views, (rows, columns) = self.geometry.views, self.geometry.shape
        beam, i0 = self.geometry.beam, "" if self.i0 is None else f", {self.i0:g} photons per ray"
        return f"Scan({views} views of {rows} x {columns}, {beam} beam{i0}, for {self.grid})"

    @classmethod
    def from_counts(
        cls,
        geometry: ScanGeometry,
        grid: Grid,
        *,
        counts: Float32[np.ndarray, "v r c"],
        exposure: Exposure,
        partial: bool = False,
    ) -> "Scan":
        """Return the scan whose sinogram and weights follow from ``counts`` (see ``recon.data.noise``).

        Raises:
            InputError: the counts are not those of a detector.
        """
        check_sinogram_shape(counts, geometry, "counts")
        sinogram, weights = line_integrals(counts, exposure, partial=partial)
        return cls(sinogram, geometry, grid, weights, counts, exposure, partial=partial)

    @property
    def i0(self) -> float | None:
        """Photons per ray without an object, where known."""
        return None if self.exposure is None else self.exposure.i0

    def affine(self, grid: Grid) -> Float64[np.ndarray, "4 4"]:
        """Return the map from indices (x, y, z) of a reconstruction on ``grid`` to patient RAS mm."""
        return np.asarray(self.frame @ grid_affine(grid))

    def __getitem__(self, views: Index) -> "Scan":
        """Return the scan of some views: a slice, a list of indices or a boolean mask."""
        counts = None if self.counts is None else self.counts[views]
        geometry, sinogram, weights = self.geometry[views], self.sinogram[views], self.weights[views]
        return replace(self, geometry=geometry, sinogram=sinogram, weights=weights, counts=counts)

    def rows(self, start: int, stop: int) -> "Scan":
        """Return the scan seen by some detector rows; they are the slices of parallel and fan beams.

        Raises:
            InputError: rays cross slices, so that no slice can be reconstructed alone.
        """
        if not self.geometry.sliced:
            raise InputError(
                f"slices: the rays of a {self.geometry.beam} beam cross slices, expected all of them"
            )
        counts = None if self.counts is None else self.counts[:, start:stop]
        geometry, grid = self.geometry.rows(start, stop), self.grid.slices(start, stop)
        sinogram, weights = self.sinogram[:, start:stop], self.weights[:, start:stop]
        return replace(
            self,
            geometry=geometry,
            grid=grid,
            sinogram=sinogram,
            weights=weights,
            counts=counts,
            partial=True,
        )


def check_slices(geometry: ScanGeometry, grid: Grid) -> None:
    """Refuse a stack whose detector rows are not its slices.

    Raises:
        InputError: with both numbers.
    """
    rows, slices = geometry.shape[0], grid.shape[0]
    if geometry.sliced and rows != slices:
        found = f"{rows} detector rows for {slices} slices"
        raise InputError(f"volume: found {found}, expected one row per slice in a {geometry.beam} beam")


def check_sinogram_shape(array: np.ndarray, geometry: ScanGeometry, name: str) -> None:
    """Refuse an array that does not fit the detector; see `check_shape`.

    Raises:
        InputError: it does not.
    """
    check_shape(array.shape, geometry, name)


def check_shape(shape: tuple[int, ...], geometry: ScanGeometry, name: str) -> None:
    """Refuse the shape of an array that does not fit the detector, and say so when its axes seem to be swapped.

    Raises:
        InputError: naming ``name``, the shape found and the shape expected.
    """
    expected = (geometry.views, *geometry.shape)
    if shape == expected:
        return
    swapped = sorted(shape) == sorted(expected)
    hint = "; are its axes swapped?" if swapped else ""
    raise InputError(f"{name}: found shape {shape}, expected (view, row, column) = {expected}{hint}")


def check_line_integrals(
    sinogram: Float32[np.ndarray, "v r c"], weights: Float32[np.ndarray, "v r c"]
) -> None:
    """Refuse line integrals that are NaN, or weights that are negative or NaN.

    Raises:
        InputError: saying how many and where the first is.
    """
    for name, array in (("sinogram", sinogram), ("weights", weights)):
        bad, first = 0, None
        # View by view: masks of a whole scan would be as large as the scan.
        for view, values in enumerate(array):
            wrong = ~np.isfinite(values) if name == "sinogram" else ~(np.isfinite(values) & (values >= 0))
            if wrong.any():
                bad += int(wrong.sum())
                row, column = (int(i) for i in np.argwhere(wrong)[0])
                first = first or (view, row, column)
        if first is not None:
            value = array[first]
            raise InputError(f"{name}: {bad} bad values, the first is {value} at (view, row, column) {first}")


def check_seen(sinogram: Float32[np.ndarray, "..."], weights: Float32[np.ndarray, "..."]) -> None:
    """Refuse a scan that saw nothing.

    Raises:
        InputError: every weight, or every line integral, is zero.
    """
    if not (weights > 0).any():
        raise InputError("weights: every weight is zero, expected inverse variances")
    if not sinogram.any():
        raise InputError("sinogram: every value is zero, expected line integrals of an object")
