#!/usr/bin/env bash
# Pillow 13.0.0: convert("RGB") and convert("L") clamp 16-bit grey at 255 instead of scaling it.
# One would guess that a 16-bit grey PNG becomes 8-bit as every viewer shows it, value / 257: 16-bit colour does. Of
# grey, every value from 255 of 65,535 up becomes white, without a warning, so that a whole photograph is white; a
# floating-point image in [0, 1] becomes black. Loaders that call convert("RGB"), such as torchvision's ImageFolder,
# hand such images to training.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check pillow==13.0.0 numpy==2.4.6 2>/dev/null
venv/bin/python - <<'PY'
import numpy as np
from PIL import Image

grey = np.array([[0, 100, 1000, 30000, 65535]], np.uint16)
Image.fromarray(grey).save("grey.png")
Image.fromarray((grey / 65535).astype(np.float32)).save("float.tif")
for mode in ("L", "RGB"):
    found = np.asarray(Image.open("grey.png").convert(mode)).reshape(5, -1)[:, 0].tolist()
    print(f'16-bit grey {grey[0].tolist()} by convert("{mode}"): {found}')
    assert found == [0, 100, 255, 255, 255], found
found = np.asarray(Image.open("float.tif").convert("RGB"))[0, :, 0].tolist()
print(f'the same as floats from 0 to 1 by convert("RGB"): {found}')
assert found == [0, 0, 0, 0, 1], found
PY
