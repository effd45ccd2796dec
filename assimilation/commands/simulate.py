"""The verb ``simulate-system``: trajectories of a system whose behaviour is known."""

from pathlib import Path
from typing import Annotated, Optional

import typer


def add_to(app: typer.Typer) -> None:
    """Give the command line its verb."""
    app.command("simulate-system")(simulate_system)


def simulate_system(
    name: Annotated[str, typer.Argument(help="navier-stokes, kolmogorov, lorenz96 or linear-gaussian.")],
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045 (typer reads the old spelling on every supported version)
        typer.Argument(metavar="KEY=VALUE", help="Fields of the system, such as viscosity=1e-3."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="File to write: .nc, or a .zarr folder.")] = None,
    trajectories: Annotated[int, typer.Option(min=1, help="Independent trajectories.")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="Frames of each trajectory.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random draw.")] = 0,
    grid: Annotated[int | None, typer.Option("--grid", min=1, help="Points along each axis.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print the memory needed, and stop.")] = False,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print the system, and stop.")] = False,
) -> None:
    """Simulate trajectories of a known system at its statistical equilibrium."""
    from assimilation.run import simulate as jobs

    system = jobs.system(name, size=grid, overrides=overrides or [])
    if print_config:
        jobs.print_system(system)
        return
    needed = jobs.memory(system, trajectories=trajectories, frames=steps)
    if plan:
        print(needed.table())
        return
    if out is None:
        raise typer.BadParameter("missing option '--out': the file to write")
    needed.require()
    jobs.simulate_to_file(system, out, trajectories=trajectories, frames=steps, seed=seed)
