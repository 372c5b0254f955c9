"""A network of namespaces with a profile's links applied, for the benchmarks that measure it by the agents."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from gannet.netem.agent.client import AgentClient
from gannet.netem.links.plan import InterfacePlan, network_plan
from gannet.netem.links.profile import load_profile
from gannet.netem.sandbox import Sandbox


@contextmanager
def shaped(nodes: int, profile: str, engine: str) -> Iterator[tuple[list[AgentClient], list[InterfacePlan]]]:
    """Agents and plans by rank; every node answers probes."""
    addresses = [f"10.77.1.{10 + rank}" for rank in range(nodes)]
    plans = network_plan(load_profile(profile), {}, {}, addresses, "mesh0")
    with ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox())
        sandbox.add_network(addresses)
        agents = [AgentClient.spawn(sandbox.prefix(f"node{rank}"), f"node {rank}") for rank in range(nodes)]
        for agent in agents:
            stack.callback(agent.close)
        for rank, (agent, plan) in enumerate(zip(agents, plans, strict=True)):
            agent.request("apply", engine=engine, plan=plan.to_json())
            agent.request("probe_serve", address=addresses[rank])  # as when the links of a run are applied
        yield agents, plans
