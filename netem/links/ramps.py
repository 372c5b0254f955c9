"""Links on the way from one profile to another along a straight line: the steps of a ramp. Pure."""

from __future__ import annotations

from gannet.netem.links.fields import LINK_FIELDS
from gannet.netem.links.plan import Edge, path_plan
from gannet.netem.links.profile import LinkProfile, profile_of
from gannet.netem.links.state import LinkState

_RAMPED = (
    *("down_bps", "up_bps", "down_delay_ms", "up_delay_ms"),
    *(name for name, declared in LINK_FIELDS.items() if declared.ramped),
)


def between(old: LinkProfile, new: LinkProfile, share: float, rates: bool = True) -> LinkProfile:
    """The profile that lies `share` of the way (above 0, below 1) from one to the other."""
    figures: dict[str, object] = {"name": f"{old.name}→{new.name}"}
    for field in _RAMPED:
        a, b = getattr(old, field), getattr(new, field)
        if field == "loss_percent":
            a, b = old.mean_loss_percent, new.loss_percent
            figures[field] = 0.0 if new.gilbert_elliott else a + (b - a) * share
        elif not field.endswith("_bps"):
            figures[field] = a + (b - a) * share
        elif rates and a is not None and b is not None:
            figures[field] = round(a + (b - a) * share)
        elif rates and (a is None) != (b is None):
            capped, free = (new.name, old.name) if a is None else (old.name, new.name)
            raise ValueError(f"{field}: {capped} has a cap and {free} has none: a ramp needs a rate at both ends")
    if new.jitter_ms == 0 < old.jitter_ms:
        figures |= {"jitter_distribution": old.jitter_distribution, "jitter_order": old.jitter_order}
    if (figures.get("jitter_order") or new.jitter_order) == "keep":
        figures["jitter_correlation_percent"] = 0.0
    return profile_of({**dict(new), **figures}, f"on the way from {old.name} to {new.name}: ")


def edge_profile(state: LinkState, edge: Edge) -> LinkProfile:
    """The profile of a directed link, or one made from the access links at its ends."""
    if (own := state.edges.get(edge)) is not None:
        return own
    source, target = (state.profile_of(rank) for rank in edge)
    path = path_plan(source, target)
    figures = {name: getattr(path, name) for name in LINK_FIELDS}
    if path.bursts:
        figures["loss_percent"] = path.bursts.loss_percent
    delays = {"up_delay_ms": path.delay_ms, "down_delay_ms": path.delay_ms}
    kinds = {name: getattr(path, name) for name in ("jitter_distribution", "jitter_order")}
    return profile_of({"name": f"{edge[0]}→{edge[1]}", **delays, **figures, **kinds})


def rate_between(state: LinkState, edge: Edge, profile: LinkProfile, share: float) -> LinkProfile:
    """A link's own rate so far on the way from the present one, or from that of its ends, to the profile's."""
    old, new_bps = state.rates.get(edge), profile.path_bps
    ends = [state.profile_of(edge[0]).up_bps, state.profile_of(edge[1]).down_bps]
    known = [old.path_bps] if old is not None else ends
    old_bps = min((rate for rate in known if rate is not None), default=None)
    if old_bps is None or new_bps is None:
        raise ValueError(f"rate of {edge[0]}>{edge[1]}: a ramp needs a rate at both ends, of the link or its nodes")
    rate_bps = round(old_bps + (new_bps - old_bps) * share)
    return profile.model_copy(update={"name": f"→{profile.name}", "down_bps": rate_bps, "up_bps": rate_bps})
