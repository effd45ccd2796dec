"""The verb ``score ensemble``: analyses or forecasts against the truth."""

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from assimilation.commands.options import Strict
from priors.commands.options import Json

Numbers = Optional[list[float]]  # noqa: UP045 (typer reads the old spelling on every supported version)


Scales = Annotated[
    Optional[list[int]],  # noqa: UP045
    typer.Option(help="Odd neighbourhood of the fractions skill score in cells; may be repeated."),
]


def score_ensemble(
    archive: Annotated[Path, typer.Argument(help="Run folder, or an archive (.nc, .zarr) with members.")],
    truth: Annotated[
        Path, typer.Argument(help="NetCDF, Zarr, GRIB or radar folder, on the same or a finer grid.")
    ],
    json: Json = None,
    variable: Annotated[str | None, typer.Option(help="Variable of the truth to read.")] = None,
    threshold: Annotated[
        Numbers, typer.Option(help="Event threshold in the variable's unit; may be repeated.")
    ] = None,
    scale: Scales = None,
    fss_border: Annotated[
        Literal["valid", "zeros", "cut"],
        typer.Option(
            help="Where a neighbourhood leaves the field: share of the valid cells, zeros outside (pysteps), "
            "or whole neighbourhoods only (scores)."
        ),
    ] = "valid",
    region: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="NAME=Y0:Y1,X0:X1, a box to score apart; may be repeated."),
    ] = None,
    climatology: Annotated[
        Path | None, typer.Option(help="Training fields for the anomaly correlation.")
    ] = None,
    observations: Annotated[Path | None, typer.Option(help="Observations for departures (O-A).")] = None,
    lead: Annotated[
        float | None, typer.Option(help="Of several starts by several leads, score this lead only, in hours.")
    ] = None,
    zr: Annotated[
        str | None, typer.Option(help="A,B of Z = A R^B for a truth of radar reflectivity, e.g. 200,1.6.")
    ] = None,
    hail_cap: Annotated[
        float | None, typer.Option(help="Reflectivity of the truth above this dBZ counts as this.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    strict: Strict = False,
    report: Annotated[
        bool, typer.Option("--report", help="Write the run's report again with truth and scores.")
    ] = False,
) -> None:
    """Score an ensemble of analyses or forecasts against the truth."""
    from assimilation.run import verify as job
    from assimilation.verification.verify import VerifyOptions

    given: dict[str, tuple] = {}
    if scale:
        given["scales"] = job.parse_scales(scale)
    options = VerifyOptions(
        thresholds=tuple(threshold) if threshold else None,
        regions=tuple(job.parse_region(text) for text in region or ()),
        seed=seed,
        fss_border=fss_border,
        **given,  # type: ignore[arg-type]
    )
    files = job.VerifyFiles(
        archive, truth, variable, climatology, observations, lead, job.parse_rain(zr, hail_cap)
    )
    job.run(files, options, as_json=json, report=report, strict=strict)
