"""Radar composites of four services: values, time, place and damage, on real files and on files made here."""

import gzip
import shutil

import numpy as np
import pyproj
import pytest

from assimilation.io.radar.bom import read_bom
from assimilation.io.radar.composites import is_radar, open_radar
from assimilation.io.radar.fmi import read_fmi
from assimilation.io.radar.frame import rain_rate
from assimilation.io.radar.knmi import read_knmi
from assimilation.io.radar.mch import read_mch
from priors.runtime.errors import InputError
from tests.support.real_data import real_data

FMI = "weather/radar_fmi_20160928"
MCH = "weather/radar_mch_20160711"
KNMI = "weather/radar_knmi_20100826"
BOM = "weather/radar_bom66_20201031"


def file(folder: str, place: int):
    return sorted(real_data(folder).iterdir())[place]


def test_marshall_and_palmer():
    # Z = 200 R^1.6: their relation at 1 and 10 mm/h.
    np.testing.assert_allclose(rain_rate(10 * np.log10(200 * np.array([1.0, 10.0]) ** 1.6)), [1, 10])


HEADER = b"""P5
# obstime 202001020304
# metersperpixel_x 1000.0
# metersperpixel_y 2000.0
# projection radar {
# type stereographic
# centrallongitude 25
# centrallatitude 90
# truelatitude 60
# bottomleft 18.600000 57.930000
# }
4 3
255
"""


def test_reflectivity_in_eight_bits(tmp_path):
    cells = bytes([0, 64, 110, 255, 1, 2, 3, 4, 250, 84, 64, 0])
    (tmp_path / "202001020304_fmi.x.pgm").write_bytes(HEADER + cells)
    frame = read_fmi(tmp_path / "202001020304_fmi.x.pgm")
    assert frame.time == np.datetime64("2020-01-02T03:04")
    # The first row of the image is the northernmost.
    assert frame.rate[2, 0] == 0
    assert frame.rate[2, 1] == pytest.approx(float((1 / 200) ** (1 / 1.6)))
    assert frame.rate[2, 2] == pytest.approx(float((10**2.3 / 200) ** (1 / 1.6)))
    assert np.isnan(frame.rate[2, 3])
    assert frame.grid.spacing == pytest.approx((2.0, 1.0))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (HEADER + b"123", "found 3 cells, expected 3 x 4"),
        (HEADER.replace(b"obstime", b"time"), "found nothing like 'obstime"),
        (b"P6\n1 1\n255\n123", "no PGM header"),
        (HEADER.replace(b"centrallatitude 90", b"centrallatitude 99999999999"), "which PROJ cannot read"),
    ],
)
def test_a_damaged_image(tmp_path, content, told):
    cells = b"" if told.startswith("found 3") else bytes(12)
    path = tmp_path / "202001020304_fmi.x.pgm"
    path.write_bytes(content + cells)
    with pytest.raises(InputError, match=told):
        read_fmi(path)


@pytest.mark.parametrize(
    ("size", "told"), [(b"\x00\x04", "found an image of"), (b"\xff\xff", "is a damaged")]
)
def test_a_picture_of_another_size_is_not_decoded(tmp_path, size, told):
    content = file(MCH, 0).read_bytes()
    path = tmp_path / file(MCH, 0).name
    # Width and height follow the six letters of the signature.
    path.write_bytes(content[:6] + 2 * size + content[10:])
    with pytest.raises(InputError, match=told):
        read_mch(path)


def test_the_finnish_grid_ends_where_its_header_says():
    frame = read_fmi(file(FMI, 0))
    header = gzip.decompress(file(FMI, 0).read_bytes())[:900].decode("latin-1")
    longitude, latitude = map(float, header.split("topright ")[1].split()[:2])
    right, top = pyproj.Proj(frame.grid.projection)(longitude, latitude)
    dy, dx = frame.grid.spacing
    # The corner in degrees has three decimals, 100 m; cells are of 1 km.
    assert frame.grid.x[-1] + dx / 2 == pytest.approx(right, abs=0.3)
    assert frame.grid.y[-1] + dy / 2 == pytest.approx(top, abs=0.3)
    assert frame.rate.shape == (1226, 760)
    assert np.isnan(frame.rate).mean() == pytest.approx(0.243, abs=0.02)


def test_the_swiss_classes_and_grid():
    from PIL import Image

    path = file(MCH, 10)
    frame = read_mch(path)
    classes = np.array(Image.open(path))[::-1]
    assert frame.time == np.datetime64("2016-07-11T21:35")
    for index in (2, 60, 100, 150, 200):
        if not (classes == index).any():
            continue
        expected = 12 * (10 ** ((index - 71.5) / 20) / 316) ** (1 / 1.5)
        np.testing.assert_allclose(frame.rate[classes == index], expected, rtol=1e-6)
    assert (frame.rate[classes < 2] == 0).all()
    assert np.isnan(frame.rate[classes == 255]).all()
    # Bern is the origin of the Swiss grid: 600 km east, 200 km north.
    x, y = pyproj.Proj(frame.grid.projection)(7.438632, 46.951083)
    assert (x, y) == pytest.approx((600.0, 200.0), abs=0.2)
    assert frame.grid.x[0] == 255.5
    assert frame.grid.y[0] == -159.5


def test_the_dutch_grid_has_the_corners_of_its_header():
    import h5py

    path = file(KNMI, 40)
    frame = read_knmi(path)
    with h5py.File(path) as data:
        corners = data["geographic"].attrs["geo_product_corners"].reshape(4, 2)
        counts = data["image1/image_data"][()]
    x, y = pyproj.Proj(frame.grid.projection)(*corners[0].astype(float))
    # Corners have three decimals of a degree: 0.1 km.
    assert (frame.grid.x[0] - 0.5, frame.grid.y[0] - 0.5) == pytest.approx((x, y), abs=0.3)
    x, y = pyproj.Proj(frame.grid.projection)(*corners[2].astype(float))
    assert (frame.grid.x[-1] + 0.5, frame.grid.y[-1] + 0.5) == pytest.approx((x, y), abs=0.3)
    assert frame.time == np.datetime64("2010-08-26T03:20")
    valid = counts[::-1] != 65535
    np.testing.assert_allclose(frame.rate[valid], 0.12 * counts[::-1][valid], rtol=1e-5)
    assert np.isnan(frame.rate[~valid]).all()


def test_ten_minutes_of_rain_become_a_rate():
    import h5py

    path = file(BOM, 60)
    frame = read_bom(path)
    with h5py.File(path) as data:
        packed = data["precipitation"][()][::-1]
    assert frame.time == np.datetime64("2020-10-31T10:00")
    np.testing.assert_allclose(frame.rate[packed > 0], 0.3 * packed[packed > 0], rtol=1e-5)
    assert (frame.rate[packed < -1] == 0).all()
    assert frame.grid.spacing == pytest.approx((0.5, 0.5))
    # The radar of the title stands at the origin.
    longitude, latitude = pyproj.Proj(frame.grid.projection)(0, 0, inverse=True)
    assert (longitude, latitude) == pytest.approx((153.24, -27.7178), abs=1e-3)


@pytest.mark.parametrize("folder", [FMI, MCH, KNMI, BOM])
def test_a_truncated_file_is_told(tmp_path, folder):
    first = file(folder, 0)
    (tmp_path / first.name).write_bytes(first.read_bytes()[:700])
    assert is_radar(tmp_path)
    with pytest.raises(InputError, match=first.name[:12]):
        open_radar(tmp_path).fields()


def test_a_folder_in_the_order_of_time(tmp_path):
    for place in (2, 0, 1):
        shutil.copy(file(MCH, place), tmp_path)
    (tmp_path / "notes.txt").write_text("not an image")
    fields = open_radar(tmp_path).fields()
    assert fields.values.shape == (1, 3, 1, 640, 710)
    assert fields.times[0] == np.datetime64("2016-07-11T20:45")
    assert (np.diff(fields.times) == np.timedelta64(5, "m")).all()
    assert [(item.name, item.unit, item.minimum) for item in fields.variables] == [("rain_rate", "mm/h", 0.0)]
    assert not is_radar(tmp_path.parent)
