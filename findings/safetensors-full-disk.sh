#!/usr/bin/env bash
# safetensors 0.8.0: `save_file` on a full disk raises SafetensorError, which is no OSError and has no errno, and what
# it writes is for its owner alone (mode 0600), whatever the umask is.
# One would guess an OSError with errno.ENOSPC, as from every other write in Python, so that a program can tell a full
# disk, which it can wait for, from a mistake in its tensors; and files as readable as those that open() makes. save()
# gives the bytes, and writing them has both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > try.py <<'PY'
import errno
import os
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save, save_file

os.umask(0o022)
tensors = {"x": np.zeros(100_000, np.float32)}
save_file(tensors, "disk/whole.safetensors")
Path("disk/bytes.safetensors").write_bytes(save(tensors))
for name in ("whole", "bytes"):
    print(name, oct(Path(f"disk/{name}.safetensors").stat().st_mode & 0o777))
modes = [Path(f"disk/{name}.safetensors").stat().st_mode & 0o777 for name in ("whole", "bytes")]
assert modes == [0o600, 0o644], modes
try:
    save_file(tensors, "disk/more.safetensors")
except SafetensorError as error:
    print("save_file:", type(error).__name__, error, "| an OSError:", isinstance(error, OSError))
    assert not isinstance(error, OSError) and not hasattr(error, "errno")
else:
    raise SystemExit("the disk was not full")
try:
    Path("disk/more.safetensors").write_bytes(save(tensors))
except OSError as error:
    print("write_bytes(save()):", type(error).__name__, errno.errorcode[error.errno])
    assert error.errno == errno.ENOSPC
else:
    raise SystemExit("the disk was not full")
PY
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check safetensors==0.8.0 numpy==2.3.5
mkdir disk
# A disk of 1 MB that only this command sees: two files of 400 kB fit, a third does not.
unshare --user --map-root-user --mount sh -c 'mount -t tmpfs -o size=1m tmpfs disk && venv/bin/python try.py'
