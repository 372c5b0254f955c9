"""What a profile says of a single directed link: a rate of its own, delay, jitter and loss, or both. Pure.

A link's rate and its other figures are replaced separately, each as a whole: {rate: 1Mbit} leaves delay and loss as
they are, {delay_ms: 100} the rate. A profile by name or from a file says both.
"""

from __future__ import annotations

from gannet.netem.links.profile import BUFFER_FIELDS, LinkProfile

_RATE_FIELDS = frozenset({"down_bps", "up_bps", *BUFFER_FIELDS})
_OF_NODES = ("queue", "down_queue")
_NEITHER = frozenset({"name", "source", "assumed", *_OF_NODES})
OF_NODES = {name: LinkProfile.model_fields[name].default for name in _OF_NODES}
"""Fields that only a node's access link can have, with their defaults."""


def gives(profile: LinkProfile) -> tuple[bool, bool]:
    """Whether it says delay, jitter, loss and so on, and whether it says a rate. One that says nothing says both."""
    given = profile.model_fields_set - _NEITHER
    rate, rest = given & _RATE_FIELDS, given - _RATE_FIELDS
    return (bool(rest), bool(rate)) if given else (True, True)


def given_figures(profile: LinkProfile) -> list[str]:
    """The fields of delay, jitter, loss and so on that were given one by one; none of a profile by name."""
    given = profile.model_fields_set
    if given >= LinkProfile.model_fields.keys():
        return []
    fields = LinkProfile.model_fields
    return [
        name for name in sorted(given - _NEITHER - _RATE_FIELDS) if getattr(profile, name) != fields[name].default
    ]


def edge_misfit(profile: LinkProfile) -> str:
    """The field of the profile that does nothing at a single link, and what to do; empty: none."""
    for name, default in OF_NODES.items():
        if getattr(profile, name) != default:
            return f"{name} is of a node's access link, not of a single link: give it to the node, or leave it out"
    return buffer_misfit(profile)


def buffer_misfit(profile: LinkProfile) -> str:
    """The buffer or queue that does nothing, since the profile limits no rate; empty: none."""
    if profile.path_bps is not None:
        if profile.down_bps is None and profile.down_queue != OF_NODES["down_queue"]:
            return f"down_queue: {profile.down_queue} does nothing without a rate: add down, or leave it out"
        return ""
    for name in (*BUFFER_FIELDS, *_OF_NODES):
        if getattr(profile, name) != LinkProfile.model_fields[name].default:
            return f"{name} does nothing without a rate: add rate, or leave it out"
    return ""
