"""Drives the agents' probes over all links of a network and makes the certificate.

On links that nothing else uses: first delays, of all links at once by small echoes; then delays under load, and
rates, in rounds in which no node sends or receives twice; then fans, a node and all its peers at once. Links that the
first look finds out of tolerance are measured once more, longer, and that look decides by wider intervals
(gannet.netem.measure.tolerances): a 99% interval alone would condemn one faultless link in a hundred.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import monotonic
from typing import Any, Protocol

from gannet.netem.agent.client import AgentError
from gannet.netem.links.outages import outages_as_cuts
from gannet.netem.links.plan import FRAME_BYTES, Edge, InterfacePlan, path_rate_bps
from gannet.netem.measure.certificate import Certificate, EdgeResult, FanResult, expected_edge
from gannet.netem.measure.judge import Order, judge_edge
from gannet.netem.measure.judge_busy import judge_busy_edge
from gannet.netem.measure.judge_fan import judge_fan
from gannet.netem.measure.probe_plan import (
    ECHO_FRAME_BITS,
    Fan,
    calm_parts,
    echo_count,
    echo_interval_s,
    fan_groups,
    fan_seconds,
    fans,
    full_buffers_s,
    is_gentle,
    load_train,
    path_of,
    schedule_rounds,
    train_pace_bps,
    train_seconds,
    unseen_together,
)
from gannet.netem.measure.tolerances import TOLERANCES

_FRAME_BITS = 8 * FRAME_BYTES
_BUSY_ECHOES, _BUSY_INTERVAL_S = 40, 0.005
_TRAIN_LEAST_PACKETS, _TRAIN_MOST_PACKETS = 24, 40_000
# Without a cap there is nothing to judge: a short burst shows what the machine can do; this many packets for all
# links together.
_UNCAPPED_PACKETS, _LEAST_UNCAPPED_PACKETS = 160_000, 2_000
_FAN_BINS = 40
# On idle links nothing but the echoes themselves can make one wait.
_SAMPLED_ECHOES, _SAMPLED_QUEUE_MS = 3, 2.0

Answers = dict[Edge, dict[str, Any]]


class Client(Protocol):
    """Passes requests on to an agent, as gannet.netem.agent.client.AgentClient does."""

    def request(self, op: str, timeout_s: float = 30.0, **arguments: Any) -> dict[str, Any]: ...


def measure_links(
    clients: Mapping[int, Client],
    plans: Sequence[InterfacePlan],
    edges: Sequence[Edge],
    sampled: Sequence[Edge] = (),
) -> Certificate:
    """Measure directed links (src, dst) by rank, with plans applied and nothing else using the links.

    Of the links in `sampled`, only a few echoes show that they carry packets, none of them too early or too late.

    Checks first that every interface reads back as planned. A link that is wrong or loses everything is a verdict,
    not an error; AgentError when an agent fails or has no route to a peer. At 10 Mbit/s four nodes in a ring take
    about 4 s, and 16 nodes that all talk to each other less than 20 s (bench/certificate.py). Agents on different
    machines have different clocks, see gannet.netem.measure.judge.Order.
    """
    certificate, begin_s = Certificate(), monotonic()
    edges, plans = sorted(set(edges)), outages_as_cuts(plans)
    others = sorted(set(sampled) - set(edges))
    ranks = sorted({rank for edge in (*edges, *others) for rank in edge})
    with ThreadPoolExecutor(max_workers=max(1, len(ranks), len(edges))) as pool:
        clocks: dict[int, str] = {}

        def prepare(rank: int) -> list[str]:
            clocks[rank] = clients[rank].request("probe_serve", address=plans[rank].address)["clock"]
            return [f"node {rank}: {said}" for said in clients[rank].request("read_back")["differences"]]

        for differences in pool.map(prepare, ranks):
            for difference in differences:
                certificate.add_reason(difference)
        look = _Look(pool, clients, plans, clocks, edges)
        links = look.links(edges)
        links |= look.links([edge for edge, result in links.items() if not result.ok], again=True)
        links |= look.sampled(others)
        links |= look.sampled([edge for edge in others if not links[edge].ok], again=True)
        # Between machines the sum of several receivers' counts would need one clock.
        wanted = [fan for fan in fans(plans, edges) if fan.direction == "in" or len(set(clocks.values())) == 1]
        together = look.fans(wanted)
        together |= look.fans([fan for fan, result in together.items() if not result.ok], again=True)
    for edge in (*edges, *others):
        certificate.add_edge(links[edge])
    for fan in wanted:
        certificate.add_fan(together[fan])
    certificate.unseen = unseen_together(plans, wanted)
    certificate.seconds = monotonic() - begin_s
    return certificate


class _Look:
    """One measurement of some links: the state that its probes share."""

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        clients: Mapping[int, Client],
        plans: Sequence[InterfacePlan],
        clocks: Mapping[int, str],
        edges: Sequence[Edge],
    ) -> None:
        self.pool, self.clients, self.plans, self.clocks = pool, clients, plans, clocks
        self.all_edges = edges

    def links(self, edges: Sequence[Edge], again: bool = False) -> dict[Edge, EdgeResult]:
        """Measure delays, then trains, on each of these links."""
        if not edges:
            return {}
        interval_s = echo_interval_s(self.plans, edges)
        count = echo_count(interval_s, again)
        echoes = self._echoes(edges, interval_s, count)
        share = 0.5 if again else 1.0
        rounds = [
            part for batch in schedule_rounds(edges, self.plans) for part in calm_parts(batch, self.plans, share)
        ]
        trains: Answers = {}
        loads: Answers = {}
        for batch in rounds:
            wanted = [(edge, load) for edge in batch if (load := load_train(self.plans, edge, again)) is not None]
            loads.update(self.pool.map(self._load, wanted))
            answers = self.pool.map(lambda edge: self._train(edge, len(rounds), again), batch)
            trains.update(zip(batch, answers, strict=True))
        confidence = TOLERANCES.second_confidence if again else TOLERANCES.loss_confidence
        found = {}
        for edge in edges:
            order = replace(_order(self.plans, self.clocks, edge), echo_interval_s=interval_s)
            found[edge] = judge_edge(order, echoes[edge], trains[edge], confidence, load=loads.get(edge))
        return found

    def sampled(self, edges: Sequence[Edge], again: bool = False) -> dict[Edge, EdgeResult]:
        """Echo a few times over each of these links, all at once."""
        if not edges:
            return {}
        count = _SAMPLED_ECHOES * (8 if again else 1)
        echoes = self._echoes(edges, echo_interval_s(self.plans, edges), count)
        found = {}
        for edge in edges:
            order = _order(self.plans, self.clocks, edge)
            found[edge] = judge_busy_edge(order, _SAMPLED_QUEUE_MS, echoes[edge])
        return found

    def _echoes(self, edges: Sequence[Edge], interval_s: float, count: int) -> Answers:
        """Echo over all links at once, with one request per node."""
        targets: dict[int, list[int]] = {}
        for source, target in edges:
            targets.setdefault(source, []).append(target)
        wait_s = max(_longest_s(self.plans, edge) for edge in edges)

        def probe(source: int) -> dict[str, Any]:
            answer = self.clients[source].request(
                "probe",
                timeout_s=30 + 2 * wait_s + count * interval_s,
                kind="delays",
                source=self.plans[source].address,
                targets=[self.plans[target].address for target in targets[source]],
                count=count,
                interval_s=interval_s,
                wait_s=wait_s,
            )
            found: dict[str, Any] = answer["targets"]
            return found

        answers = dict(zip(targets, self.pool.map(probe, targets), strict=True))
        return {(a, b): answers[a][self.plans[b].address] for a, b in edges}

    def _train(self, edge: Edge, rounds: int, again: bool) -> dict[str, Any]:
        rate_bps, path = path_rate_bps(self.plans, *edge), path_of(self.plans, edge)
        if rate_bps is None:
            packets = max(_LEAST_UNCAPPED_PACKETS, _UNCAPPED_PACKETS // max(8, len(self.all_edges)))
            return self._send(edge, packets, None, train_s=1.0)
        train_s = train_seconds(rounds, path, again)
        packets = min(_TRAIN_MOST_PACKETS, max(_TRAIN_LEAST_PACKETS, round(train_s * rate_bps / _FRAME_BITS)))
        pace_bps = train_pace_bps(self.plans, edge, packets)
        return self._send(edge, packets, pace_bps, packets * _FRAME_BITS / rate_bps)

    def _load(self, wanted: tuple[Edge, tuple[float, int]]) -> tuple[Edge, dict[str, Any]]:
        edge, (pace_bps, frames) = wanted
        load_s = frames * _FRAME_BITS / pace_bps
        return edge, {**self._send(edge, frames, pace_bps, load_s), "load_s": load_s}

    def _send(
        self, edge: Edge, packets: int, pace_bps: float | None, train_s: float, bin_s: float = 0.0
    ) -> dict[str, Any]:
        wait_s, path = 2 * _longest_s(self.plans, edge), path_of(self.plans, edge)
        source, target = self.plans[edge[0]], self.plans[edge[1]]
        return self.clients[edge[0]].request(
            "probe",
            timeout_s=30 + train_s + wait_s,
            kind="rate",
            source=source.address,
            target=target.address,
            packets=packets,
            pace_bps=pace_bps,
            segments=source.segments,
            wait_s=wait_s,
            settle_s=2 * path.delay_ms / 1000 if path.reorder_percent or path.reorders else 0.0,
            bin_ms=1000 * bin_s,
        )

    def fans(self, wanted: Sequence[Fan], again: bool = False) -> dict[Fan, FanResult]:
        """Measure each node with all its peers at once, and as many such nodes in parallel as do not disturb each
        other.
        """
        found: dict[Fan, FanResult] = {}
        for group in fan_groups(self.plans, wanted):
            jitter_ms = max(path_of(self.plans, edge).jitter_ms for fan in group for edge in fan.edges)
            fan_s = max(fan_seconds(fan, jitter_ms, again) for fan in group)
            bin_s = fan_s / _FAN_BINS
            paced = [
                (edge, pace_bps) for fan in group for edge, pace_bps in zip(fan.edges, fan.paces_bps, strict=True)
            ]

            def send(flow: tuple[Edge, float], fan_s: float = fan_s, bin_s: float = bin_s) -> dict[str, Any]:
                edge, pace_bps = flow
                return self._send(edge, round(fan_s * pace_bps / _FRAME_BITS), pace_bps, fan_s, bin_s)

            answers = dict(zip((edge for edge, _ in paced), self.pool.map(send, paced), strict=True))
            for fan in group:
                expected = FanResult(fan.node, fan.direction, fan.peers, fan.rate_bps, None)
                trains = [answers[edge] for edge in fan.edges]
                paths = [path_of(self.plans, edge) for edge in fan.edges]
                found[fan] = judge_fan(expected, trains, paths, bin_s)
        return found


def check_links(clients: Mapping[int, Client], plans: Sequence[InterfacePlan], edges: Sequence[Edge]) -> Certificate:
    """Check directed links in use without disturbing their traffic: some 40 echoes a link, and the read-backs.

    Rates are read back, not measured: that would take the whole link. An agent that fails is a reason
    against the links. A link in an outage must carry nothing, whether that loses packets or keeps them. See
    judge_busy_edge for what an echo can show.
    """
    certificate, plans = Certificate(), outages_as_cuts(plans)
    clocks: dict[int, str] = {}
    echoes: Answers = {}
    with ThreadPoolExecutor(max_workers=max(1, len(clients))) as pool:

        def prepare(rank: int) -> list[str]:
            try:
                clocks[rank] = clients[rank].request("probe_serve", address=plans[rank].address)["clock"]
                said = clients[rank].request("read_back")["differences"]
            except AgentError as error:
                said = [str(error)]
            return [f"node {rank}: {text}" for text in said]

        def probe(edge: Edge) -> dict[str, Any]:
            try:
                return _probe_delay(clients, plans, edge)
            except AgentError as error:
                return {"error": str(error)}

        for differences in pool.map(prepare, clients):
            for difference in differences:
                certificate.add_reason(difference)
        for batch in schedule_rounds(edges):
            echoes.update(zip(batch, pool.map(probe, batch), strict=True))
    for edge in sorted(echoes):
        order = _order(plans, clocks, edge)
        queue_ms = 1000 * (_longest_s(plans, edge) - 1) - order.path.delay_ms
        certificate.add_edge(judge_busy_edge(order, queue_ms, echoes[edge]))
    return certificate


def _order(plans: Sequence[InterfacePlan], clocks: Mapping[int, str], edge: Edge) -> Order:
    """A link's plan, and whether its ends have two clocks, so that only round trips can be measured."""
    source, target = edge
    return Order(
        expected_edge(plans, source, target),
        path_of(plans, edge),
        path_of(plans, edge[::-1]),
        two_clocks=clocks.get(source) != clocks.get(target),
        gentle=is_gentle(plans, edge),
    )


def _longest_s(plans: Sequence[InterfacePlan], edge: Edge) -> float:
    """A round trip over full buffers, and a second for everything else that is slow to start."""
    source, target = (plans[rank] for rank in edge)
    seconds = 1.0
    for plan, peer in ((target, source), (source, target)):
        path = plan.paths.get(peer.address)
        seconds += (path.delay_ms + 4 * path.jitter_ms) / 1000 if path else 0.0
        seconds += full_buffers_s(peer, plan)
    return seconds


def _probe_delay(clients: Mapping[int, Client], plans: Sequence[InterfacePlan], edge: Edge) -> dict[str, Any]:
    source, target = edge
    slowest_bps = min(path_rate_bps(plans, *edge) or 1e12, path_rate_bps(plans, target, source) or 1e12)
    jitter_ms = max(path_of(plans, e).jitter_ms for e in (edge, (target, source)))
    # Never faster than half of the slower direction, so that echoes do not queue behind each other, nor so fast
    # that they all have the same jitter.
    interval_s = max(_BUSY_INTERVAL_S, 2 * ECHO_FRAME_BITS / slowest_bps, 2 * jitter_ms / 1000)
    wait_s = _longest_s(plans, edge)
    return clients[source].request(
        "probe",
        timeout_s=30 + 2 * wait_s + _BUSY_ECHOES * interval_s,
        kind="delay",
        source=plans[source].address,
        target=plans[target].address,
        count=_BUSY_ECHOES,
        interval_s=interval_s,
        wait_s=wait_s,
    )
