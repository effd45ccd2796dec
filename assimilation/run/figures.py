"""What a run says of itself in numbers and words: sizes, withheld observations, attributes of the archive."""

import sys
from pathlib import Path
from typing import Any

from assimilation.inference.assimilator import Assimilator, EnsemblePlan
from assimilation.inference.domain import step_of
from assimilation.inference.nowcast.nowcaster import Nowcaster
from assimilation.inference.problem import Problem
from assimilation.io.registry import open_stream
from assimilation.run.settings import AssimilateSettings, ForecastSettings
from assimilation.verification.departures import departures
from priors.card import Prior


def sizes(problem: Problem, assimilator: Assimilator, plan: EnsemblePlan) -> dict[str, Any]:
    """Return what was computed, in numbers."""
    schedule = assimilator.schedule
    return {
        "trajectories": problem.trajectories,
        "members": plan.members,
        "frames": problem.frames,
        "lag": "inf" if schedule.lag is None else schedule.lag,
        "motion": "none" if problem.advection is None else "advect",
        "evolution": "cascade" if isinstance(assimilator, Nowcaster) else "prior",
        "steps": schedule.steps,
        "frame_evaluations": schedule.evaluations(problem.frames),
    }


def withheld(archive: Path, problem: Problem) -> dict[str, Any]:
    """Return how the analyses compare with the observations that were withheld."""
    if problem.passive is None:
        return {}
    with open_stream(archive) as ensemble:
        whole, _ = departures(problem.passive, ensemble)
    print(
        f"withheld: {whole.count} observations, rms {whole.rms:.4g} where errors and spread lead to expect "
        f"{whole.expected:.4g}, mean {whole.mean:.3g}",
        file=sys.stderr,
    )
    return {"withheld": whole.as_dict()}


def attributes_of(
    settings: AssimilateSettings | ForecastSettings, prior: Prior, problem: Problem, assimilator: Assimilator
) -> dict[str, str]:
    """Return what the archive says of its origin."""
    attributes = {
        "title": f"{settings.command} with prior {prior.card.name}",
        "prior": prior.card.name,
        "prior_sha256": prior.card.sha256,
        "seed": str(settings.seed),
    }
    if isinstance(settings, ForecastSettings):
        start = str((problem.times[0] - step_of(prior)).astype("datetime64[ms]"))
        return {**attributes, "forecast_reference_time": start.removesuffix(".000")}
    lag = assimilator.schedule.lag
    return {**attributes, "lag": "inf" if lag is None else str(lag)}
