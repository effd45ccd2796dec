"""From the stored pixels of a DICOM slice to HU.

HU = RescaleSlope * stored + RescaleIntercept, per slice (PS3.3 C.11.1.1.2). Pixels that equal PixelPaddingValue, or
lie between it and PixelPaddingRangeLimit, were not measured (C.7.5.1.1.2): where their HU are above -1024 they
become -1024, so that they count as air like every other padding.
"""

import math

import numpy as np
from jaxtyping import Bool, Float32, Shaped
from pydicom.dataelem import RawDataElement
from pydicom.uid import JPEG2000, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless

from priors.runtime.errors import InputError
from recon.data.units import PADDING_HU
from recon.io.volumes.dicom.geometry import Slice

_NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_PACKED = 4000
"""The most that any of the codecs compresses a slice: a header that promises more is damaged."""


INSIDE = 0.9
"""Radius, as a share of the inscribed circle's, inside which a slice has no padding."""


def fill_hounsfield(plane: Slice, out: Float32[np.ndarray, "y x"]) -> int:
    """Write the HU of a slice into ``out``; return how many pixels inside the scanned circle are marked as padding.

    Raises:
        InputError: the pixels cannot be decoded, or are not as many as the header says.
    """
    stored = stored_pixels(plane)
    if stored.shape != out.shape:
        raise InputError(f"{plane.name}: found pixels of shape {stored.shape}, expected {out.shape}")
    slope, intercept = plane.number("RescaleSlope"), plane.number("RescaleIntercept")
    assert slope is not None
    assert intercept is not None
    if slope == 1 and stored.dtype.itemsize <= 2 and intercept == np.float32(intercept):
        np.add(stored, np.float32(intercept), out=out)
    else:
        out[:] = stored * slope + intercept
    padding = _padding(plane, stored)
    if padding is None or not padding.any():
        return 0
    wrong = padding & (out > PADDING_HU)
    out[wrong] = PADDING_HU
    rows, columns = np.nonzero(wrong)
    height, width = out.shape
    away = np.hypot(rows - (height - 1) / 2, columns - (width - 1) / 2)
    return int((away < INSIDE * min(height, width) / 2).sum())


def stored_pixels(plane: Slice) -> Shaped[np.ndarray, "_ _"]:
    """Return the numbers in the file, rows x columns.

    Raises:
        InputError: they cannot be decoded.
    """
    data = plane.dataset
    try:
        syntax = data.file_meta.TransferSyntaxUID
        usual = data.BitsAllocated == 16 and data.get("HighBit") == data.BitsStored - 1
        if syntax in _NATIVE and usual and plane.frame is None:
            return _native(plane)
        check_size(plane)
        if syntax in (JPEG2000, JPEG2000Lossless):
            # GDCM, which pydicom prefers, ends the process on some damaged code streams.
            data.pixel_array_options(decoding_plugin="pillow")
        pixels = data.pixel_array
        return np.asarray(pixels if plane.frame is None or pixels.ndim == 2 else pixels[plane.frame])
    except InputError:
        raise
    except Exception as error:
        # The decoders raise errors of their own; whatever it is, this slice has no usable pixels.
        name = getattr(getattr(data, "file_meta", {}).get("TransferSyntaxUID"), "name", "no transfer syntax")
        raise InputError(
            f"{plane.name}: pixels cannot be decoded ({name}); damaged or truncated file?"
        ) from error


def _native(plane: Slice) -> Shaped[np.ndarray, "y x"]:
    """Return uncompressed pixels of 16 allocated bits; what is above the stored bits is no value.

    pydicom's own way costs three times as long, which for a series is more than reading it.
    """
    data = plane.dataset
    kind, unused = "<i2" if data.PixelRepresentation == 1 else "<u2", 16 - int(data.BitsStored)
    count, raw = math.prod(plane.size), data.get_item(0x7FE00010)
    if isinstance(raw, RawDataElement) and raw.value is None and data.filename:
        # Still in the file, see recon.io.volumes.dicom.files: what is read here is not kept.
        stored = np.fromfile(data.filename, kind, min(count, raw.length // 2), offset=raw.value_tell)
    else:
        stored = np.frombuffer(data.PixelData, kind, count)
    stored = stored.reshape(plane.size)
    return (stored << unused) >> unused if unused else stored


def check_size(plane: Slice) -> None:
    """Refuse a header that asks for more memory than the pixels can fill.

    Raises:
        InputError: it does, or the slice has no size.
    """
    rows, columns = plane.size
    if min(rows, columns) < 1:
        raise InputError(f"{plane.name}: found {rows} rows and {columns} columns, expected a picture")
    wanted = 2 * rows * columns * (plane.number("NumberOfFrames") or 1)
    if wanted > 2**24 and wanted > _PACKED * len(plane.dataset.PixelData):
        raise InputError(f"{plane.name}: found {rows} x {columns} pixels, more than its data can hold")


def _padding(plane: Slice, stored: Shaped[np.ndarray, "y x"]) -> Bool[np.ndarray, "y x"] | None:
    value, limit = plane.number("PixelPaddingValue"), plane.number("PixelPaddingRangeLimit")
    if value is None:
        return None
    if limit is None or limit == value:
        return np.asarray(stored == value)
    return np.asarray((stored >= min(value, limit)) & (stored <= max(value, limit)))
