"""The formats that a plan is written in, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gannet.netem.exports import containerlab, mahimahi, tc_script, tcconfig
from gannet.netem.exports.paths import Exported
from gannet.netem.links.plan import InterfacePlan

FORMATS: Mapping[str, Callable[[Sequence[InterfacePlan]], Exported]] = {
    "tc": tc_script.export_network,
    "tcconfig": tcconfig.export_network,
    "containerlab": containerlab.export_network,
    "mahimahi": mahimahi.export_network,
}
