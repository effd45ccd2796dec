"""Settings of a method chosen on scans whose volumes are known: the smallest mean squared error in HU.

FOLDER/tuned.yaml         the settings found, which ``reconstruct -c`` takes
FOLDER/tuning.json        the scores before and after, and every evaluation
FOLDER/evaluations.jsonl  kept as they come: a search that was interrupted repeats none of them

Choose on other patients than those a result is claimed for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from priors.runtime.config import to_yaml
from priors.runtime.errors import InputError, Interrupted
from priors.runtime.output import check_json, emit_json
from priors.runtime.run_folder.record import RunFolder, check_same_config, open_run
from recon.run.problem.pose import Problem, read_problem
from recon.run.settings import ReconstructSettings
from recon.run.solving.watch import Reference, read_reference
from recon.run.tuning.search import Search, kept, least

TUNED = "tuned.yaml"
RESULT = "tuning.json"
EVALUATIONS = "evaluations.jsonl"


@dataclass(frozen=True)
class Request:
    """What the command line asked for.

    Attributes:
        scans: measurements.
        references: the volumes behind them in HU, in the same order.
        keys: settings of the method, dotted.
        evaluations: largest number of times that every scan is reconstructed.
    """

    scans: Sequence[Path]
    references: Sequence[Path]
    keys: Sequence[str]
    evaluations: int = 30


def tune(
    request: Request,
    settings: ReconstructSettings,
    out: Path,
    *,
    resume: bool,
    overwrite: bool,
    as_json: str | None,
) -> None:
    """Search, and write the settings found.

    Raises:
        InputError: files or keys cannot be used, or a method refuses a scan.
        Interrupted: with the way to continue.
    """
    inputs = [*request.scans, *request.references]
    check_json(as_json, inputs)
    cases = _cases(request, settings)
    first = _first(settings, cases[0][0], request.keys)
    with open_run(out, resume=resume, overwrite=overwrite, inputs=inputs) as run:
        check_same_config(run, settings)
        run.claim(TUNED, RESULT, EVALUATIONS)
        run.write_config(settings)
        roles = {f"scan {n}": path for n, path in enumerate(request.scans)}
        roles |= {f"reference {n}": path for n, path in enumerate(request.references)}
        run.write_inputs(roles, command="tune", seed=settings.seed)
        search = Search(settings, cases, request.keys, run.file(EVALUATIONS), request.evaluations)
        search.known.extend(kept(search.log) if resume else [])
        try:
            least(search, np.log(list(first.values())))
        except KeyboardInterrupt:
            raise Interrupted(
                f"continue with the same command and --resume (run folder {run.path})"
            ) from None
        _write(run, search, as_json)


def _cases(request: Request, settings: ReconstructSettings) -> list[tuple[Problem, Reference]]:
    if len(request.scans) != len(request.references) or not request.scans:
        found = f"{len(request.scans)} scans and {len(request.references)} references"
        raise InputError(f"scans: found {found}, expected as many of each")
    cases = []
    for scan, path in zip(request.scans, request.references, strict=True):
        problem = read_problem(scan, settings)
        problem.plan().require()
        cases.append((problem, Reference(problem, read_reference(path))))
    return cases


def _first(settings: ReconstructSettings, problem: Problem, keys: Sequence[str]) -> dict[str, float]:
    """Return where the search begins: the settings, and what the first scan says of those that follow it.

    Raises:
        InputError: a key is unknown, or no positive number that varies continuously.
    """
    if not keys:
        raise InputError("keys: found none, expected settings of the method such as fast.refine.pull")
    method = problem.resolved().settings.method
    first = {}
    for key in keys:
        node: Any = method
        for name in key.split("."):
            if name not in getattr(type(node), "model_fields", {}):
                raise InputError(
                    f"keys: {method.name} has no setting '{key}' (tomocast config schema reconstruct)"
                )
            node = getattr(node, name)
        if isinstance(node, bool) or not isinstance(node, float) or node <= 0:
            raise InputError(f"keys: '{key}' is {node!r}, expected a number above 0 that may take any value")
        first[key] = node
    return first


def _write(run: RunFolder, search: Search, as_json: str | None) -> None:
    """Write the best settings and the figures."""
    before, best = search.known[0], min(search.known, key=lambda row: row["rmse_hu"])
    tuned = search.settings.model_copy(update={"method": search.method(best["settings"])})
    run.file(TUNED).write_text(to_yaml(tuned), encoding="utf-8")
    result = {"before": before, "after": best, "evaluations": search.known}
    run.write_json(RESULT, result)
    if not emit_json(result, as_json):
        print(f"rmse {before['rmse_hu']:.2f} HU before, {best['rmse_hu']:.2f} HU after: {best['settings']}")
        print(f"settings {run.file(TUNED)}")
