"""What ``inspect`` says of a checkpoint of other software, before anything is imported."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from priors.runtime.inspection import Inspection

if TYPE_CHECKING:
    from priors.adapters.foreign import Foreign


def inspect_checkpoint(path: Path) -> Inspection:
    """Return what a foreign checkpoint is, how it would be imported, and what must be told.

    Raises:
        InputError: it is of no known family, cannot be a prior, or is damaged.
    """
    from priors.adapters.foreign import Told
    from priors.adapters.importing import described_network, missing
    from priors.adapters.registry import read_checkpoint
    from priors.adapters.slices import is_volume, needs_neighbours

    told = Told()
    foreign = read_checkpoint(path, told)
    lacking = list(missing(foreign, told))
    if (
        getattr(foreign.network, "attends", False)
        and foreign.size is None
        and "shape" not in foreign.described
    ):
        lacking.append("size=")
    if is_volume(foreign.network):
        lacking.append("slices=")
    elif needs_neighbours(foreign):
        lacking.append("channels=neighbours")
    if getattr(foreign.network, "classes", None) and getattr(foreign.network, "label", None) is None:
        lacking.append("label=")
    licence = foreign.described.get("licence")
    words: dict[str, Any] = {
        "family": foreign.family,
        "weights": foreign.path.name,
        "network": described_network(foreign),
        "one call sees": _seen(foreign),
        "noise levels": _without_betas(foreign.schedule),
        "output": repr(foreign.parametrisation),
        "told of the level": repr(foreign.conditioning),
        "trained size": "not stated" if foreign.size is None else f"{foreign.size[0]} x {foreign.size[1]}",
        "licence": licence or "not stated: say --licence, and see that it allows what you do",
    }
    for number, note in enumerate(foreign.notes, start=1):
        words[f"note {number}"] = note
    words["must be told"] = ", ".join(lacking) or "nothing"
    shown = [name.split(" or ")[0] for name in lacking]
    options = " ".join(_shown(name) for name in shown)
    words["import"] = f"tomocast import-prior {path.name} {options} --out FOLDER".replace("  ", " ")
    warnings = () if licence else ("no licence in the file",)
    return Inspection(f"checkpoint of {foreign.family}", words, warnings)


def _shown(name: str) -> str:
    """Return an option with dots where its value goes."""
    if name.startswith("--"):
        return f"{name} ..."
    return f"{name}..." if name.endswith("=") else name


def _seen(foreign: "Foreign") -> str:
    """Return what the network's channels and dimensions are to a volume, as far as they tell."""
    from priors.adapters.slices import COLOURS, is_volume
    from priors.networks import ForeignNetwork

    network = foreign.network
    found, gives = network.field_channels, network.field_channels
    if isinstance(network, ForeignNetwork):
        gives = network.output_channels
    if is_volume(network):
        return "a block of slices (a network over volumes); slices= says how many"
    if found == 1:
        return "one slice"
    if found == COLOURS and gives in (found, 2 * found):
        return "a colour image, to which grey slices are lifted; channels=neighbours says three slices"
    return f"{found} channels; channels=neighbours says slices around the one that is answered"


def _without_betas(schedule: Any) -> str:
    text = repr(schedule)
    return text if len(text) < 120 else f"{type(schedule).__name__} of {schedule.steps()} steps"
