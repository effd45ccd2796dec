"""The verb ``calibrate``: measure what a prior's card should say, and write it there.

--data SLICES        codec, orientation, mirror symmetry, bfloat16 and memory, on reference slices
VOLUME --views ...   the intervals of draws, on scans simulated from a volume the prior has not seen
--patients PREPARED  what the prior finds familiar, on prepared slices
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from priors.card import Prior, PriorCard

VIEWS = (8, 16, 30)


class SeveralViews(TyperCommand):
    """A command that reads ``--views 8 16 30`` as three values."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option before every number that follows it."""
        words: list[str] = []
        inside = False
        for word in args:
            inside = word == "--views" or (inside and word.isdecimal())
            if inside and word != "--views" and words[-1] != "--views":
                words.append("--views")
            words.append(word)
        return super().parse_args(ctx, words)


Out = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Write a new folder, or the card alone (.yaml), instead of changing the card."
    ),
]
Slices = Annotated[
    int | None,
    typer.Option(
        "--slices", min=1, help="Slices: of --data 2, of VOLUME the 8 in its middle, of --patients 4."
    ),
]
Views = Annotated[
    Optional[list[int]],  # noqa: UP045 (typer reads the old spelling on every supported version)
    typer.Option("--views", min=1, help="Views of the scans simulated from VOLUME: 8 16 30 by default."),
]


def calibrate(
    prior: Annotated[str, typer.Argument(help="Folder with card.yaml (an embedded prior only with --out).")],
    volume: Annotated[
        Path | None,
        typer.Argument(help="Volume in HU of a patient the prior has not seen: fits the intervals of draws."),
    ] = None,
    views: Views = None,
    method: Annotated[str, typer.Option(help="Diffusion method whose intervals are fitted.")] = "nerd-fast",
    i0: Annotated[float, typer.Option("--i0", min=1, help="Photons per ray of these scans.")] = 1e5,
    draws: Annotated[int, typer.Option(min=2, help="Draws per scan.")] = 4,
    grid: Annotated[int, typer.Option(min=16, help="Pixels of the reconstruction's slice.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Seed of noise and draws.")] = 0,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Reference slices, .npy (slice, y, x), prior's unit: fits the codec."),
    ] = None,
    patients: Annotated[
        Path | None,
        typer.Option("--patients", help="Prepared folder: measures what the prior finds familiar."),
    ] = None,
    slices: Slices = None,
    out: Out = None,
) -> None:
    """Measure what a prior's card says: its codec, the intervals of its draws, what it finds familiar."""
    from priors.card import EMBEDDED, Prior, denoiser_of, find_prior, load_prior
    from priors.card.folder import replace_card, write_prior
    from priors.runtime.config import to_yaml
    from priors.runtime.errors import InputError
    from priors.runtime.files.writing import atomic

    if data is None and volume is None and patients is None:
        raise InputError("calibrate: found nothing to measure on, expected VOLUME, --data or --patients")
    folder = find_prior(prior)
    if out is None and folder.resolve().parent == EMBEDDED:
        raise InputError(f"prior {prior!r}: comes with the package and is not changed; expected --out FOLDER")
    loaded = load_prior(folder)
    card = loaded.card
    if data is not None:
        card = _codec(loaded, data, slices or 2, out or folder)
        loaded = Prior.assembled(denoiser_of(card, loaded.network), card)
    if volume is not None:
        from recon.run.trust.calibration import Request

        request = Request(
            volume, views or VIEWS, method, i0=i0, draws=draws, slices=slices or 8, grid=grid, seed=seed
        )
        card = _intervals(loaded, request)
        loaded = Prior.assembled(loaded.denoiser, card)
    if patients is not None:
        card = _familiarity(loaded, patients, slices or 4)
        loaded = Prior.assembled(loaded.denoiser, card)
    if out is None:
        replace_card(folder, card)
    elif out.suffix in (".yaml", ".yml"):
        with atomic(out) as temporary:
            temporary.write_text(to_yaml(card), encoding="utf-8")
    else:
        write_prior(loaded, out)


def _codec(loaded: "Prior", data: Path, slices: int, target: Path) -> "PriorCard":
    """Measure codec, orientation, mirror symmetry, bfloat16 and memory; say what was found."""
    from priors.adapters.calibrate import calibrated, reference_slices
    from priors.runtime.progress import Progress

    reference = reference_slices(data, slices, loaded)
    with Progress(1, "calibrate") as progress:

        def on_step(done: int, total: int) -> None:
            progress.total = total
            progress.step(done=done)

        card = calibrated(loaded, reference, data=data.name, on_step=on_step)
    found = card.codec_calibration
    assert found is not None
    codec = loaded.slices.model_validate(card.codec.model_dump())
    print(
        f"{target}: offset {codec.offset:g}, scale {codec.scale:g} {card.unit}, margin {found.margin:.1%}, "
        f"orientation {card.fit.orientation!r}, mirrored {card.mirrored}, error {found.error:.3g} at {found.level:g}"
    )
    if found.margin < 0.01:
        print(f"warning: {data}: the best codec is only {found.margin:.2%} better than the next")
    return card


def _intervals(loaded: "Prior", request: Any) -> "PriorCard":
    """Fit the intervals of draws; say what was found."""
    from priors.runtime.progress import Progress
    from recon.reconstructors.base import StepRecord
    from recon.run.trust.calibration import interval_rows, merged

    with Progress(None, "calibrate") as progress:
        passed = {"": 0}

        def on_step(label: str, record: StepRecord) -> None:
            passed[label] = record.iteration
            total = record.total
            progress.total = None if total is None else total * len(request.views)
            progress.step(done=sum(passed.values()))

        rows = interval_rows(loaded, request, on_step)
    for row in rows:
        worst = min(row.coverage, key=lambda name: -abs(row.coverage[name] - 0.9))
        print(
            f"{row.method}, {row.views} views x {row.columns} columns, i0 {row.i0:g}, {row.orbit}: a {row.a:.3g}, "
            f"b {row.b_hu:g} HU; coverage of 90 % intervals {row.coverage['body']:.3f}, "
            f"worst {row.coverage[worst]:.3f} ({worst})"
        )
    return loaded.card.model_copy(update={"calibration": merged(loaded.card.calibration, rows)})


def _familiarity(loaded: "Prior", patients: Path, slices: int) -> "PriorCard":
    """Measure what the prior finds familiar; say how far every patient lies from the others."""
    from priors.audits.patients import familiarity_of
    from priors.runtime.progress import Progress

    with Progress(1, "calibrate") as progress:

        def on_step(done: int, total: int) -> None:
            progress.total = total
            progress.step(done=done)

        found = familiarity_of(loaded, patients, slices=slices, on_step=on_step)
    for source, score in found.left_out.items():
        print(f"{source}: score {score:.2f} against the others")
    return loaded.card.model_copy(update={"familiarity": found})
