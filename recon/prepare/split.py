"""Patients to training and validation, so that no patient is in both.

Patients are ordered by a hash of seed and identity: the split depends on nothing but the two, and a patient added
later moves no other from one side to the other except at the border.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Int16

from priors.runtime.errors import InputError

Split = Literal["train", "validation"]


def numbered(patients: Iterable[str], seed: int) -> dict[str, int]:
    """Return a number for every patient, from 1, in an order that says nothing about the identity."""

    def rank(patient: str) -> str:
        return hashlib.sha256(f"{seed}:{patient}".encode()).hexdigest()

    return {patient: number for number, patient in enumerate(sorted(set(patients), key=rank), start=1)}


def split_patients(
    patients: Sequence[str], *, share: float, hold_out: Sequence[str], seed: int
) -> dict[str, Split]:
    """Return the split of every patient.

    Raises:
        InputError: there are fewer than two, one to hold out is not there, or none is left to train on.
    """
    order = sorted(numbered(patients, seed).items(), key=lambda pair: pair[1])
    if len(order) < 2:
        raise InputError(
            f"patients: found {len(order)}, expected two at least, since a patient is in one split only; where "
            "all files state the same PatientID, or all lie in one folder, say --patients folders or files"
        )
    absent = [name for name in hold_out if name not in dict(order)]
    if absent:
        raise InputError(
            f"hold_out: found no patient called {absent[0]!r}, expected a PatientID, or the name of a folder or "
            "file below the source"
        )
    count = min(len(order) - 1, max(1, round(share * len(order))))
    held = set(hold_out) or {patient for patient, _ in order[:count]}
    if len(held) == len(order):
        raise InputError("hold_out: holds out every patient, expected one at least to train on")
    return {patient: "validation" if patient in held else "train" for patient, _ in order}


class SliceHashes:
    """Hashes of all slices so far: the same content in both splits is held-out data that is trained on."""

    def __init__(self) -> None:
        self._seen: dict[bytes, tuple[Split, str]] = {}

    def add(self, array: Int16[np.ndarray, "z y x"], split: Split, title: str) -> None:
        """Remember the slices of a series. Slices of one value, such as air, are everybody's.

        Raises:
            InputError: a slice is in the other split already.
        """
        for index, field in enumerate(array):
            if field.min() == field.max():
                continue
            # blake2b of the values: a copy is found whatever its name, order or number of slices.
            digest = hashlib.blake2b(np.ascontiguousarray(field).tobytes(), digest_size=16).digest()
            other, where = self._seen.setdefault(digest, (split, title))
            if other != split:
                raise InputError(
                    f"{title}: slice {index} of the {split} split is also in {where}, which is in the {other} "
                    "split; held-out slices must not be trained on"
                )
