"""The pictures and maps of heights that come with Matplotlib: real images that are on every machine of a reader.

hopper      photograph of Grace Hopper, U.S. Navy (public domain)                        (3, 600, 512)
minduka     drawing of a parcel by Minduka, Open Clip Art Library (public domain)        (4, 128, 128), the last its opacity
jacksboro   heights of the land at Jacksboro, Tennessee, in metres                       (1, 344, 403)
vancouver   heights and depths between Vancouver Island and the mainland, in metres      (1, 91, 120)
"""

from __future__ import annotations

from typing import Any

import numpy as np

FILES = {
    "hopper": "grace_hopper.jpg",
    "minduka": "Minduka_Present_Blue_Pack.png",
    "jacksboro": "jacksboro_fault_dem.npz",
    "vancouver": "topobathy.npz",
}
HEIGHTS = {"jacksboro": "elevation", "vancouver": "topo"}


def picture(name: str) -> np.ndarray:
    """The picture ``name``, (C, Y, X) float64: from 0 (dark) to 1 (light), or metres.

    Raises ValueError for another name, and FileNotFoundError for a Matplotlib without its sample data.
    """
    if name not in FILES:
        raise ValueError(f"picture: name must be one of {', '.join(FILES)}, got {name!r}")
    held = sample(FILES[name])
    if name in HEIGHTS:
        return held[HEIGHTS[name]][None].astype(np.float64)
    from PIL import Image

    with Image.open(held) as image:
        return np.moveaxis(np.asarray(image), -1, 0) / 255


def sample(file: str) -> Any:
    """A file of Matplotlib's sample data: a stream, or arrays by name if it is an ``.npz``."""
    from matplotlib.cbook import get_sample_data

    try:
        return get_sample_data(file)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"this Matplotlib has been installed without its sample data ({file} is missing); that of PyPI has them"
        ) from error
