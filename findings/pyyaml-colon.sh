#!/usr/bin/env bash
# PyYAML 6.0.3: an unquoted 1:2 is the number 62; 0:1, 1:60 and 0,1:2,3 are text.
# One would guess that a value with a colon in it is text unless the colon ends a key. PyYAML follows YAML 1.1, which
# has numbers to the base of sixty; YAML 1.2 (2009) has none. Times, ports, ratios and pairs of numbers are hit, and
# only while the first part begins with 1 to 9 and the others are below 60. In the other direction, 1e-3, a number in YAML 1.2, is text.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check pyyaml==6.0.3 2>/dev/null
venv/bin/python - <<'PY'
import yaml

right = {"1:2": 62, "0:1": "0:1", "1:60": "1:60", "8080:80": "8080:80", "22:22": 1342, "0,1:2,3": "0,1:2,3", "1:30.5": 90.5, "1e-3": "1e-3"}
for text, value in right.items():
    found = yaml.safe_load(f"field: {text}")["field"]
    print(f"field: {text} is {found!r}")
    assert found == value and type(found) is type(value), found
PY
