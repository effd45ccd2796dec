"""Our own weights format: safetensors, one tensor per parameter, float16 or float32; buffers keep their precision."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from priors.runtime.errors import InputError
from priors.runtime.files.writing import atomic


def read_weights(network: nn.Module, path: Path) -> None:
    """Load weights into ``network``, upcast to its dtype.

    Raises:
        InputError: not a safetensors file, or missing, unexpected or misshapen tensors.
    """
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a safetensors file ({error})") from error
    expected = network.state_dict()
    missing, unexpected = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or unexpected:
        raise InputError(
            f"{path}: does not fit the card's network: "
            f"{len(missing)} tensors missing (first: {missing[:1]}), "
            f"{len(unexpected)} unexpected (first: {unexpected[:1]})"
        )
    for key, tensor in found.items():
        if tensor.shape != expected[key].shape:
            raise InputError(
                f"{path}: {key} has shape {tuple(tensor.shape)}, expected {tuple(expected[key].shape)}"
            )
    network.load_state_dict(found)


def write_weights(network: nn.Module, path: Path, *, dtype: torch.dtype = torch.float16) -> None:
    """Write the weights, parameters as ``dtype``, atomically.

    Raises:
        InputError: the folder cannot be written or the disk is full.
    """
    learned = {key for key, _ in network.named_parameters()}
    tensors = {
        key: (value.to(dtype) if key in learned and value.is_floating_point() else value).contiguous()
        for key, value in network.state_dict().items()
    }
    with atomic(path) as temporary:
        try:
            save_file(tensors, temporary)
        except SafetensorError as error:
            raise InputError(f"{path}: could not be written ({error})") from error


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
