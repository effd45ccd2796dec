"""What real files of weather services state is used: another unit, offset or quantity gives another number, or none."""

import gzip
import shutil

import h5py
import numpy as np
import pytest

from assimilation.io.radar.bom import read_bom
from assimilation.io.radar.fmi import read_fmi
from assimilation.io.radar.frame import rain_rate
from assimilation.io.radar.knmi import read_knmi
from priors.runtime.errors import InputError
from tests.support.real_data import real_data

BOM = "weather/radar_bom66_20201031/66_20201031_070000.prcp-c10.nc"
KNMI = "weather/radar_knmi_20100826/RAD_NL25_RAP_5min_201008260300.h5"
FMI = "weather/radar_fmi_20160928/201609281445_fmi.radar.composite.lowest_FIN_SUOMI1.pgm.gz"


def copied(name, tmp_path):
    path = tmp_path / real_data(name).name
    shutil.copyfile(real_data(name), path)
    path.chmod(0o644)
    return path


def test_offset_and_unit_of_the_bureau_of_meteorology_are_used(tmp_path):
    path = copied(BOM, tmp_path)
    before = read_bom(path).rate
    with h5py.File(path, "a") as file:
        file["precipitation"].attrs["add_offset"] = np.array([1.0])
    # 1 mm in ten minutes is 6 mm/h.
    np.testing.assert_allclose(read_bom(path).rate[before > 0] - before[before > 0], 6, atol=1e-4)
    with h5py.File(path, "a") as file:
        file["precipitation"].attrs["add_offset"] = np.array([0.0])
        file["precipitation"].attrs["units"] = np.bytes_(b"cm")
    np.testing.assert_allclose(read_bom(path).rate, 10 * before, rtol=1e-5)
    with h5py.File(path, "a") as file:
        file["precipitation"].attrs["units"] = np.bytes_(b"dBZ")
    with pytest.raises(InputError, match="precipitation: found unit 'dBZ'"):
        read_bom(path)


def test_the_quantity_of_knmi_is_used(tmp_path):
    path = copied(KNMI, tmp_path)
    amount = read_knmi(path).rate / 12
    with h5py.File(path, "a") as file:
        file["image1"].attrs["image_geo_parameter"] = np.bytes_(b"REFLECTIVITY_[DBZ]")
        file["image1/calibration"].attrs["calibration_formulas"] = np.bytes_(b"GEO=1.0*PV+-10.0")
    # The same counts, a hundredth of a millimetre each before.
    np.testing.assert_allclose(read_knmi(path).rate, rain_rate(100 * amount - 10), rtol=1e-3)
    with h5py.File(path, "a") as file:
        file["image1"].attrs["image_geo_parameter"] = np.bytes_(b"ECHOTOP_[KM]")
    with pytest.raises(InputError, match=r"image_geo_parameter: found 'ECHOTOP_\[KM\]'"):
        read_knmi(path)


@pytest.mark.parametrize(
    ("old", "new"), [(b"CorrectedReflectivity", b"RadialVelocity"), (b"type stereographic", b"type mercator")]
)
def test_other_quantities_and_maps_of_fmi_are_refused(tmp_path, old, new):
    path = copied(FMI, tmp_path).with_suffix("")
    path.write_bytes(gzip.decompress(real_data(FMI).read_bytes()).replace(old, new))
    with pytest.raises(InputError, match=f"found '{new.split()[-1].decode()}'"):
        read_fmi(path)
