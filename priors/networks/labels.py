"""Classes that a network is conditioned on."""

from priors.runtime.errors import InputError


def checked_label(label: int | None, classes: int | None) -> int | None:
    """Return the class to condition on, None of a network without classes.

    Raises:
        InputError: it is missing, not one of the network's, or given to a network without classes.
    """
    if classes is None and label is None:
        return None
    if classes is None or label is None or not label < classes:
        known = "no classes" if classes is None else f"the classes 0 to {classes - 1}"
        raise InputError(f"label: found {label}, this prior knows {known}")
    return label
