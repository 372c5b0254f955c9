"""What a run's controller gives its nodes when they join: where they begin, and their certificates."""

from __future__ import annotations

from gannet.certs.run_authority import RunAuthority, lifetime_of
from gannet.fabrics.job import Job
from gannet.fabrics.session.controller import Controller


def prepare(controller: Controller, job: Job) -> None:
    """To be called before nodes join."""
    if job.resumed is not None:
        controller.resume(job.resumed.states)
    elif job.start_weights is not None:
        controller.begin_from(job.start_weights)
    if job.encrypted:
        controller.encrypt(RunAuthority(job.config.run, lifetime_of(job.stop_s)))
