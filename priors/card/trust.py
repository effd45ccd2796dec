"""What a card says of when to believe a prior: calibrated intervals, what it finds familiar, and its audits."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

NODES_HU = (-950.0, -800.0, -500.0, -175.0, 0.0, 125.0, 400.0)
"""Where the factor of an interval has a value of its own: air, lung, its edges, fat, soft tissue, vessels, bone."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class IntervalRow(_Record):
    r"""How the deviation of a method's draws becomes an interval, fitted on one patient.

        s_tot^2 = (1 + 1/M) (a rho(h))^2 G(sd^2) + b^2,      90 %: mean +- 1.645 s_tot

    rho is linear between its values at `NODES_HU`, h the smoothed mean in HU.

    Attributes:
        method: name of the reconstruction method.
        settings: hash of the method's settings, without those that do not change a result.
        views: views of the scan it was fitted on.
        columns: detector columns of that scan.
        i0: photons per ray of that scan.
        orbit: kind of orbit, see `recon.ensembles.calibration.orbit_kind`.
        draws: M.
        a: factor of the draws' deviation, of the whole body.
        relative: rho, factor of a at every node of HU.
        b_hu: floor, HU.
        coverage: share of voxels inside the interval, by region and HU bin of the mean, on the data of the fit.
        data: what it was fitted on.
        version: of tomocast.
    """

    method: str
    settings: str
    views: int = Field(ge=1)
    columns: int = Field(ge=1)
    i0: float = Field(gt=0)
    orbit: str
    draws: int = Field(ge=2)
    a: float = Field(gt=0)
    relative: tuple[float, ...] = (1.0,) * len(NODES_HU)
    b_hu: float = Field(ge=0)
    coverage: dict[str, float] = Field(default_factory=dict)
    data: str
    version: str

    @property
    def views_per_column(self) -> float:
        """How densely the scan samples angles."""
        return self.views / self.columns


class Familiarity(_Record):
    """The five figures of a prior's own residual on patients it is at home with; see `priors.audits.familiarity`.

    Attributes:
        mean: of each figure over the patients.
        deviation: of each figure over the patients.
        left_out: score of every patient when the others are the reference.
        slices: slices per patient.
        data: what they were.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    left_out: dict[str, float]
    slices: int = Field(ge=1)
    data: str


class AuditRow(_Record):
    """One figure of an audit.

    Attributes:
        audit: copying, gap, spikiness, icr or pfd.
        figures: by name.
        verdict: ok, suspect, or informative where no threshold is known.
        data: what it was measured on.
    """

    audit: str
    figures: dict[str, float]
    verdict: Literal["ok", "suspect", "informative"]
    data: str = ""
