#!/usr/bin/env bash
# safetensors 0.8.0: the same tensors with the same metadata are other bytes in each file.
# One would guess that a format made of a JSON header and raw numbers is the same for the same content, so that two
# checkpoints with equal weights have one SHA-256. Entries of `metadata` are written in the order of a table with a
# random seed, which differs from call to call; without metadata, or with one entry, the bytes repeat.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet safetensors==0.8.0 numpy==2.4.1
cat > save.py <<'PY'
import hashlib

import numpy as np
from safetensors.numpy import save

def digests(count):
    """SHA-256 of 20 files with the same tensors and the same `count` entries of metadata."""
    metadata = {f"key{n}": str(n) for n in range(count)} or None
    tensors = {"a": np.zeros(4, dtype="float32"), "b": np.ones(2, dtype="float32")}
    return {hashlib.sha256(save(tensors, metadata=metadata)).hexdigest()[:12] for _ in range(20)}

several = {count: digests(count) for count in (0, 1, 4)}
for count, found in several.items():
    print(f"{count} entries of metadata: {len(found)} different files of 20")
assert len(several[0]) == len(several[1]) == 1, "files without metadata differ now"
assert len(several[4]) > 1, "files with metadata are the same now"
PY
venv/bin/python save.py
echo "as described"
