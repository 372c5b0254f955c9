"""MLflow: the server or database that MLFLOW_TRACKING_URI names, else a SQLite file next to the results.

Its older folder of files is refused by MLflow itself.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from gannet.trackers.base import TrackedRun

_AT_ONCE = 900  # values in one request, of which a server takes 1,000
_PARAMETERS_AT_ONCE = 90  # of 100
_STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


class Mlflow:
    """One MLflow run, in an experiment of the comparison's name. Times are of the training clock."""

    def __init__(self, run: TrackedRun, offline: bool) -> None:
        given = os.environ.get("MLFLOW_TRACKING_URI", "")
        if offline and given.startswith("http"):
            raise ConnectionError(
                f"{given} cannot be reached from the network of the nodes: `gannet log FOLDER --to mlflow` logs the "
                "run once it has ended"
            )
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of each table that it makes
        logging.getLogger("alembic").setLevel(logging.WARNING)
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        run.root.mkdir(parents=True, exist_ok=True)
        uri = given or f"sqlite:///{(run.root / 'mlflow.db').absolute()}"
        self.where = f"mlflow ui --backend-store-uri {uri}" if not given else f"mlflow at {given}"
        self._run, self._client = run, MlflowClient(tracking_uri=uri)
        experiment = self._experiment(None if given else run.root / "mlflow-artifacts")
        made = self._client.create_run(experiment, start_time=int(1000 * run.began), run_name=run.name)
        self._id = made.info.run_id
        each = [Param(name, str(value)) for name, value in run.parameters.items()]
        for begin in range(0, len(each), _PARAMETERS_AT_ONCE):
            self._client.log_batch(self._id, params=each[begin : begin + _PARAMETERS_AT_ONCE])
        self._waiting: list[Metric] = []

    def _experiment(self, artifacts: Path | None) -> str:
        name = self._run.comparison
        for _ in range(2):
            if (found := self._client.get_experiment_by_name(name)) is not None:
                return str(found.experiment_id)
            where = None if artifacts is None else artifacts.absolute().as_uri()
            with suppress(MlflowException):  # another command has made it in the meantime
                return str(self._client.create_experiment(name, where))
        return str(self._client.create_experiment(name))

    def figures(self, step: int, t_s: float, values: Mapping[str, float]) -> None:
        """See Tracker. Values are sent many at a time: each request is a transaction."""
        at_ms = int(1000 * self._run.when(t_s))
        self._waiting += [Metric(name, value, at_ms, step) for name, value in values.items()]
        if len(self._waiting) >= _AT_ONCE:
            self._send()

    def picture(self, step: int, t_s: float, file: Path) -> None:
        """See Tracker."""
        self._client.log_artifact(self._id, str(file), "images")

    def end(self, status: str) -> None:
        """See Tracker."""
        self._send()
        self._client.log_batch(self._id, tags=[RunTag("status", status)])
        self._client.set_terminated(self._id, _STATUS[status])

    def _send(self) -> None:
        for begin in range(0, len(self._waiting), _AT_ONCE):
            self._client.log_batch(self._id, metrics=self._waiting[begin : begin + _AT_ONCE])
        self._waiting = []
