"""The verb ``simulate system``: trajectories of a system whose behaviour is known."""

from typing import Annotated

import typer

from priors.commands.options import Config, OutFile, Overrides, Plan, PrintConfig, required, show


def simulate_system(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="navier-stokes, kolmogorov, lorenz96 or linear-gaussian.")
    ],
    overrides: Overrides = None,
    config: Config = None,
    out: OutFile = None,
    trajectories: Annotated[int, typer.Option(min=1, help="Independent trajectories.")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="Frames of each trajectory.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random draw.")] = 0,
    grid: Annotated[int | None, typer.Option("--grid", min=1, help="Points along each axis.")] = None,
    plan: Plan = False,
    print_config: PrintConfig = False,
) -> None:
    """Simulate trajectories of a known system at its statistical equilibrium; KEY=VALUE such as viscosity=1e-3."""
    from assimilation.run import simulate as jobs

    system = jobs.system(name, size=grid, layers=config or [], overrides=overrides or [])
    if print_config:
        show(system)
        return
    needed = jobs.memory(system, trajectories=trajectories, frames=steps)
    if plan:
        print(needed.table())
        return
    target = required(out, "the file to write: .nc, or a .zarr folder")
    needed.require()
    jobs.simulate_to_file(system, target, trajectories=trajectories, frames=steps, seed=seed)
