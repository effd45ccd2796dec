"""The verb ``audit``: does a prior copy its training patients, and does it know new ones as well."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from priors.commands.options import Json

if TYPE_CHECKING:
    from priors.card.trust import AuditRow


def audit(
    prior: Annotated[str, typer.Argument(help="Embedded prior, or a folder with card.yaml.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="Prepared folder it was trained on, with a held-out split.")
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", help="Another prior: the distance of their flows.")
    ] = None,
    samples: Annotated[int, typer.Option(min=8, help="Samples that are compared with training data.")] = 64,
    steps: Annotated[int, typer.Option(min=2, help="Noise levels of a sample.")] = 24,
    slices: Annotated[
        int, typer.Option(min=2, help="Slices or windows of each split that are denoised.")
    ] = 16,
    noises: Annotated[int, typer.Option(min=2, help="Noises of the flow distance.")] = 64,
    flow_steps: Annotated[int, typer.Option(min=2, help="Steps of the flow.")] = 40,
    size: Annotated[
        int | None, typer.Option(min=16, help="Pixels of a sample; the card's by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random draw.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the card with the rows of this audit here (.yaml).")
    ] = None,
    json: Json = None,
) -> None:
    """Audit a prior: held-out gap, copies of training slices, features, distance to another prior."""
    from priors.audits.audit import Extent, audit_against, audit_data
    from priors.card import load_prior
    from priors.runtime.config import to_yaml
    from priors.runtime.errors import InputError
    from priors.runtime.files.writing import atomic
    from priors.runtime.output import emit_json

    if data is None and against is None:
        raise InputError("audit: found nothing to compare with, expected --data or --against")
    loaded = load_prior(prior)
    extent = Extent(samples, steps, slices, noises, flow_steps, size, seed)
    rows = [] if data is None else audit_data(loaded, data, extent, _say)
    if against is not None:
        rows.append(audit_against(loaded, load_prior(against), extent, _say))
    if out is not None:
        kept = [row for row in loaded.card.audits if row.audit not in {new.audit for new in rows}]
        card = loaded.card.model_copy(update={"audits": (*kept, *rows)})
        with atomic(out) as temporary:
            temporary.write_text(to_yaml(card), encoding="utf-8")
    if not emit_json({"prior": loaded.card.name, "audits": [row.model_dump() for row in rows]}, json):
        for row in rows:
            _print(row)


def _say(what: str) -> None:
    print(f"audit: {what}", file=sys.stderr)


def _print(row: "AuditRow") -> None:
    figures = "  ".join(f"{name} {value:.4g}" for name, value in row.figures.items())
    print(f"{row.audit:<10} {row.verdict:<12} {figures}")
