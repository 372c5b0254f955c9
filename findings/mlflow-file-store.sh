#!/usr/bin/env bash
# mlflow-skinny 3.17.2: a folder as tracking URI is refused, and SQLite without SQLAlchemy is refused with another reason.
# One would guess that tracking to a folder of files works as in every tutorial, and that a database whose driver is missing
# says which package to install. A folder raises MlflowException ("in maintenance mode") unless MLFLOW_ALLOW_FILE_STORE is
# set. sqlite: raises UnsupportedModelRegistryStoreURIException ("Model registry functionality is unavailable"), although
# only tracking was asked for; with sqlalchemy and alembic it works, and its artifacts go to ./mlruns of the current folder,
# not beside the database.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check mlflow-skinny==3.17.2 2>/dev/null
cat >look.py <<'PY'
import logging
import os
import sys

logging.disable(logging.INFO)
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
from mlflow.tracking import MlflowClient

uri, expected = sys.argv[1:]
try:
    client = MlflowClient(tracking_uri=uri)
    run = client.create_run(client.create_experiment("x"))
    client.log_metric(run.info.run_id, "a", 1.0)
    found = f"works, artifacts in {os.path.relpath(run.info.artifact_uri).split(os.sep)[0]}"
except Exception as error:
    found = f"{type(error).__name__}: {str(error).strip()}"
print(f"{uri}: {found[:150]}")
assert expected in found, found
PY
mkdir data
venv/bin/python look.py "file://$PWD/data/runs" "in maintenance mode"
venv/bin/python look.py "$PWD/data/runs" "in maintenance mode"
venv/bin/python look.py "sqlite:///$PWD/data/m.db" "UnsupportedModelRegistryStoreURIException: "
venv/bin/pip install -q --disable-pip-version-check sqlalchemy==2.1.9 alembic==1.20.1 2>/dev/null
venv/bin/python look.py "sqlite:///$PWD/data/m.db" "works, artifacts in mlruns"
