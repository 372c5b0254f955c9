#!/usr/bin/env bash
# pytest-xdist 3.8.0 with pytest 9.2.0: `--dist loadgroup` keeps no group together, without a warning.
# One would guess that tests marked xdist_group("one") run in one worker, as they do with pytest 9.1.1. xdist appends
# the group to the private attribute _nodeid of each test; pytest 9.2 makes nodeid from another attribute, so that the
# scheduler sees no group and every test is one of its own: tests that must not meet run at the same time.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > test_group.py <<'PY'
import os
import time

import pytest


@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(12))
def test_number(number):
    time.sleep(0.1)
    with open("workers.txt", "a") as file:
        file.write(os.environ["PYTEST_XDIST_WORKER"] + "\n")
PY
python3 -m venv venv
workers_with() {
  venv/bin/pip install -q --disable-pip-version-check "pytest==$1" pytest-xdist==3.8.0 2>/dev/null
  rm -f workers.txt
  venv/bin/python -m pytest -q -n 2 --dist loadgroup -p no:cacheprovider > out.txt
  tail -n 1 out.txt >&2
  sort -u workers.txt | wc -l
}
older=$(workers_with 9.1.1)
newer=$(workers_with 9.2.0)
echo "workers that ran the one group: $older with pytest 9.1.1, $newer with pytest 9.2.0"
[ "$older" = 1 ] && [ "$newer" = 2 ]
