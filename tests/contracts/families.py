"""The final classes of every family, found by importing every module of the packages."""

import importlib
import inspect
import pkgutil

import assimilation
import priors
import recon
from assimilation.observation.base import ObservationOperator
from assimilation.systems.base import System
from priors.codec import Codec
from priors.diffusion.denoiser import Denoiser
from priors.diffusion.parametrisation import Parametrisation
from priors.diffusion.samplers.sampler import Sampler
from priors.diffusion.schedule import Schedule
from recon.operators.base import LinearOperator
from recon.preprocess import Step
from recon.reconstructors.base import Reconstructor
from recon.solvers.base import IterativeMethod
from recon.solvers.functionals import Functional

PACKAGES = (priors, recon, assimilation)
FAMILIES = (
    LinearOperator,
    Functional,
    IterativeMethod,
    Reconstructor,
    Schedule,
    Parametrisation,
    Denoiser,
    Sampler,
    Codec,
    System,
    ObservationOperator,
    Step,
)


def modules() -> list[str]:
    """Import every module of the packages and return their names."""
    names = [
        module.name
        for package in PACKAGES
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    ]
    for name in names:
        importlib.import_module(name)
    return names


def final_classes(family: type) -> set[type]:
    """Return the classes of a family that can be instantiated and that nobody derives from."""
    known = set(modules())
    found, queue = set(), [family]
    while queue:
        kind = queue.pop()
        children = [child for child in kind.__subclasses__() if child.__module__ in known]
        queue += children
        # pydantic makes a subclass for every parameter of a generic: those carry the parameter in their name.
        generic = "[" in kind.__name__
        if not children and not generic and not inspect.isabstract(kind):
            found.add(kind)
    return found
