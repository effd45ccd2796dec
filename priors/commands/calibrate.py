"""The verb ``calibrate``: measure a prior's codec and habits on reference slices, and write them on its card."""

from pathlib import Path
from typing import Annotated

import typer


def calibrate(
    prior: Annotated[str, typer.Argument(help="Folder with card.yaml (an embedded prior only with --out).")],
    data: Annotated[Path, typer.Option("--data", help="Reference slices, .npy (slice, y, x), prior's unit.")],
    slices: Annotated[int, typer.Option(min=1, help="How many of them to denoise.")] = 2,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write a new folder instead of changing the card.")
    ] = None,
) -> None:
    """Measure codec, orientation, mirror symmetry, bfloat16 and memory of a prior of slices."""
    from priors.adapters.calibrate import calibrated, reference_slices
    from priors.adapters.folder import replace_card, write_prior
    from priors.card import EMBEDDED, Prior, denoiser_of, find_prior, load_prior
    from priors.runtime.errors import InputError
    from priors.runtime.progress import Progress

    folder = find_prior(prior)
    if out is None and folder.parent == EMBEDDED:
        raise InputError(f"prior {prior!r}: comes with the package and is not changed; expected --out FOLDER")
    loaded = load_prior(folder)
    reference = reference_slices(data, slices)
    with Progress(1, "calibrate") as progress:

        def on_step(done: int, total: int) -> None:
            progress.total = total
            progress.step(done=done)

        card = calibrated(loaded, reference, data=data.name, on_step=on_step)
    if out is None:
        replace_card(folder, card)
    else:
        write_prior(Prior.assembled(denoiser_of(card, loaded.network), card), out)
    found = card.codec_calibration
    assert found is not None
    codec = loaded.slices.model_validate(card.codec.model_dump())
    print(
        f"{out or folder}: offset {codec.offset:g}, scale {codec.scale:g} {card.unit}, margin {found.margin:.1%}, "
        f"orientation {card.fit.orientation!r}, mirrored {card.mirrored}, error {found.error:.3g} at {found.level:g}"
    )
    if found.margin < 0.01:
        print(f"warning: {data}: the best codec is only {found.margin:.2%} better than the next")
