"""Systems whose behaviour is known; YAML and the command line pick one by ``name``."""

from assimilation.systems.navier_stokes import NavierStokes

AnySystem = NavierStokes

__all__ = ["AnySystem", "NavierStokes"]
