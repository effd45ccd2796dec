r"""Several reconstructions of one scan that differ in their noise alone: the draws of a diffusion method.

Draw k = 0..M-1 is what the method returns with the seed s + k, so draw 0 is the reconstruction without draws. The warm
start does not depend on the seed and is shared. Of the draws two sums are kept (`Moments`), and the difference of the
last one from the mean of those before it, a sample of what the data left open.

An interrupted ensemble continues to the same bits: the sums are written after every draw, the draw in work keeps its
own state (`recon.reconstructors.checkpoint`) under a stage of its own.
"""

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from priors.card import card_of_prior
from priors.runtime.errors import InputError
from recon.ensembles.moments import Moments
from recon.operators.base import LinearOperator
from recon.reconstructors.base import Measurement, RunContext, StepRecord, empty_volume
from recon.reconstructors.checkpoint import Checkpoint
from recon.reconstructors.diffusion.base import DiffusionReconstructor
from recon.solvers.least_squares import LeastSquares

Volumes = Float[Tensor, "z y x"]
FILE = "draws"


@dataclass(frozen=True)
class Draws:
    """What is known of M draws.

    Attributes:
        moments: of their attenuation, 1/mm.
        difference: of the last draw from the mean of those before it.
        chi2: per ray, of every draw.
    """

    moments: Moments
    difference: Volumes
    chi2: tuple[float, ...]


@dataclass(frozen=True)
class State:
    """What continues an ensemble: the sums of the draws that are finished, and the warm start of all."""

    count: int
    mean: Volumes
    squares: Volumes
    difference: Volumes
    chi2: tuple[float, ...]
    initial: Volumes | None


def draw(
    method: DiffusionReconstructor,
    measurement: Measurement,
    projector: LinearOperator,
    context: RunContext,
    count: int,
) -> Draws:
    """Return ``count`` draws; progress and state go through the context.

    Raises:
        InputError: see the method, or a checkpoint of another run.
    """
    mark = method.mark(measurement, projector, context, card_of_prior(method.prior), FILE)
    sums = None if context.checkpoint is None else context.checkpoint.companion(FILE)
    kept = None if sums is None else sums.load(mark, FILE)
    state = State(**kept) if kept is not None else _begin(method, measurement, projector, context)
    _keep(sums, state, mark)
    fit = LeastSquares(projector, measurement.sinogram, measurement.weights)
    for number in range(state.count, count):
        x = method(measurement, projector, _context_of(context, number, count, state.initial))
        state = _added(state, x, fit.chi2(fit.residual(x)))
        if number == 1 and not bool(state.difference.any()):
            raise InputError(
                f"draws: two of method '{method.name}' are the same: it draws no noise, expected another method"
            )
        _keep(sums, state, mark)
    return Draws(Moments(state.count, state.mean, state.squares), state.difference, state.chi2)


def _begin(
    method: DiffusionReconstructor, measurement: Measurement, projector: LinearOperator, context: RunContext
) -> State:
    """Return the state before the first draw, its warm start made."""
    initial = method.warm_volume(measurement, projector, context.within("warm start"))
    none = empty_volume(measurement, projector)
    return State(0, none, none.clone(), none.clone(), (), initial)


def _keep(sums: Checkpoint | None, state: State, mark: str) -> None:
    """Write the state at once: a draw takes longer than a file."""
    if sums is not None:
        sums.offer(vars(state), mark=mark, stage=FILE)
        sums.save()


def _context_of(context: RunContext, number: int, count: int, initial: Volumes | None) -> RunContext:
    """Return the context of one draw: its seed and stage; its steps are counted on from those before it."""

    def on_step(record: StepRecord) -> None:
        total = record.total
        if total is not None:
            record = replace(record, iteration=number * total + record.iteration, total=count * total)
        context.on_step(record)

    stage = f"draw {number}"
    return replace(context, seed=context.seed + number, on_step=on_step, stage=stage, initial=initial)


def _added(before: State, x: Volumes, chi2: float) -> State:
    """Return the state with one draw more."""
    moments = Moments(before.count, before.mean, before.squares).add(x)
    return State(
        **vars(moments), difference=x - before.mean, chi2=(*before.chi2, chi2), initial=before.initial
    )


def checkpoint_files(checkpoint: str) -> tuple[str, ...]:
    """Return the names of the files an ensemble keeps its state in, given that of the method's own."""
    return (checkpoint, Checkpoint.companion_name(checkpoint, FILE))
