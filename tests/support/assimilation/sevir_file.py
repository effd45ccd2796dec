"""Files of SEVIR in the documented layout, small, since none of the collection is at hand."""

from pathlib import Path

import h5py
import numpy as np

PROJ = "+proj=laea +lat_0=38 +lon_0=-98 +units=m +a=6370997.0 +ellps=sphere"
SIDE, FRAMES = 12, 5
COLUMNS = (
    "id,file_name,file_index,img_type,time_utc,minute_offsets,episode_id,event_id,event_type,"
    "llcrnrlat,llcrnrlon,urcrnrlat,urcrnrlon,proj,size_x,size_y,height_m,width_m,data_min,data_max,pct_missing"
)


def write_sevir(
    folder: Path, events: tuple[str, ...] = ("S1", "S2"), seed: int = 0
) -> tuple[Path, np.ndarray]:
    """Write a file below ``folder``/vil/2019 and its catalogue; return the file and its bytes (event, y, x, time)."""
    import pyproj

    counts = np.random.default_rng(seed).integers(0, 256, (len(events), SIDE, SIDE, FRAMES), np.uint8)
    path = folder / "vil" / "2019" / "SEVIR_VIL_STORMEVENTS_2019_0101_0630.h5"
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        file["id"] = np.array(events, "S")
        file.create_dataset("vil", data=counts, chunks=(1, SIDE, SIDE, FRAMES))
    rows = [COLUMNS]
    minutes = ":".join(str(minute) for minute in range(-10, 15, 5))
    for index, event in enumerate(events):
        left, bottom = 1000.0 * index, -50_000.0
        corners = [
            value
            for x, y in ((left, bottom), (left + 12_000, bottom + 12_000))
            for value in reversed(pyproj.Proj(PROJ)(x, y, inverse=True))
        ]
        told = [
            event,
            path.relative_to(folder),
            index,
            "vil",
            f"2019-06-0{index + 1} 20:30:00",
            minutes,
            1,
            2,
            "Hail",
        ]
        told += [*corners, PROJ, SIDE, SIDE, 12000, 12000, 0, 255, 0]
        rows += [
            ",".join(map(str, told)),
            f"{event},other.h5,0,ir069,2019-06-01 20:30:00,{minutes}" + "," * 15,
        ]
    (folder / "CATALOG.csv").write_text("\n".join(rows) + "\n")
    return path, counts
