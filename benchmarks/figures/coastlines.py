"""The coastlines and borders that reports draw, from countries-50m.json of the npm package world-atlas 2.0.2.

    npm pack world-atlas@2.0.2 && tar xzf world-atlas-2.0.2.tgz
    python benchmarks/figures/coastlines.py package/countries-50m.json

Natural Earth 1:50m, public domain (naturalearthdata.com), quantised there to 0.0036 and 0.0017 degrees.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from assimilation.report.coastlines import ASSET, write_lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("topology", type=Path)
    chosen = parser.parse_args()
    topology = json.loads(chosen.topology.read_text(encoding="utf-8"))
    scale, offset = (np.array(topology["transform"][key]) for key in ("scale", "translate"))
    arcs = [np.cumsum(np.array(arc), axis=0) * scale + offset for arc in topology["arcs"]]
    write_lines(ASSET, arcs)
    print(f"{ASSET}: {len(arcs)} lines, {sum(map(len, arcs))} points, {ASSET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
