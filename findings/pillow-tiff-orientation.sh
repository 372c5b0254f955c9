#!/usr/bin/env bash
# Pillow 13.0.0: an uncompressed TIFF with an orientation that turns it by 90° is scrambled when it is opened by name.
# One would guess that Image.open(name) and Image.open(file object) give the same pixels. By name, Pillow maps the file
# into memory with the turned image's width and height over rows that are not turned, then turns that: rows run into
# each other, and the shape is that of the file before turning. By file object, and compressed, it is right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check pillow==13.0.0 numpy==2.4.6 2>/dev/null
venv/bin/python - <<'PY'
import numpy as np
from PIL import Image

stored = np.arange(12, dtype=np.uint8).reshape(3, 4)
right = np.rot90(stored, -1)
for compression in (None, "tiff_lzw"):
    exif = Image.Exif()
    exif[0x112] = 6  # the viewer has to turn it clockwise
    Image.fromarray(stored).save("a.tif", exif=exif, compression=compression)
    by_name = np.asarray(Image.open("a.tif"))
    with open("a.tif", "rb") as file:
        by_object = np.asarray(Image.open(file))
    print(f"compression {compression}: by name {by_name.tolist()}, by file object {by_object.tolist()}")
    assert np.array_equal(by_object, right)
    assert np.array_equal(by_name, right) == (compression is not None)
PY
