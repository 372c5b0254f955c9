"""Before training: links that can be used, their measurement, and what the controller gives nodes that join."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from gannet.certs.run_authority import RunAuthority, lifetime_of
from gannet.fabrics.job import Job, LinkAgent, Sink
from gannet.fabrics.links.live_links import LiveLinks
from gannet.fabrics.links.silent_links import dead_links, unanswered_link
from gannet.fabrics.session.controller import Controller
from gannet.fabrics.session.node_host import Failed, NodeHost
from gannet.netem.links.plan import Edge, InterfacePlan
from gannet.netem.measure.certificate import Certificate
from gannet.netem.measure.certify import measure_links

log = logging.getLogger("gannet.fabrics.session.session")


def links_of(job: Job, node_host: NodeHost, engine: str, edges: Sequence[Edge]) -> LiveLinks:
    """The links of a run over these nodes; none is applied yet."""
    return LiveLinks(
        node_host.agents,
        node_host.interfaces,
        job.links,
        job.changes,
        engine,
        job.seed,
        edges,
        job.stack,
        node_host.core,
    )


def check_open(edges: Sequence[Edge], plans: Sequence[InterfacePlan]) -> None:
    """Raise Failed where a link that training uses lets nothing through."""
    if dead := dead_links(edges, plans):
        raise Failed(
            f"{dead} when training begins, as configured, and TCP opens no connection over it: leave it out of "
            "the topology, or cut it by an entry of links.schedule with at_s: 0 or later"
        )


def measured(
    agents: Sequence[LinkAgent], plans: Sequence[InterfacePlan], edges: Sequence[Edge], sink: Sink
) -> Certificate:
    """The certificate of the links, before training. Raises Failed where nothing comes back."""
    sink.phase("measuring every link")
    certificate = measure_links(dict(enumerate(agents)), plans, edges)
    sink.certificate(certificate)
    log.info("links measured: %s", "trusted" if certificate.trusted else "; ".join(certificate.reasons))
    if link := unanswered_link(certificate, plans):
        blocked = "is the mesh blocked (swarm: UDP 4789 between the machines)?"
        raise Failed(f"nothing comes back on {link}: {blocked}")
    return certificate


def prepare(controller: Controller, job: Job) -> None:
    """To be called before nodes join."""
    if job.resumed is not None:
        controller.resume(job.resumed.states)
    elif job.start_weights is not None:
        controller.begin_from(job.start_weights)
    if job.encrypted:
        controller.encrypt(RunAuthority(job.config.run, lifetime_of(job.stop_s)))
