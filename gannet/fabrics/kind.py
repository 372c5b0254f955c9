"""A fabric's declaration: its abilities, its needs, and how it is started.

Each fabric is a folder of gannet/fabrics (or a package elsewhere, by the entry-point group gannet.fabrics) whose
`__init__` holds its FabricKind in FABRICS. Declaring imports neither torch nor grpc: a spec is checked, and a sandbox
entered, before either may be loaded. So `open` and `launch` import what they run when they are called.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gannet.fabrics.job import Fabric
    from gannet.netem.links.profile import LinkProfile

Launch = Callable[[str, Path, int, Callable[[str], None]], int]


@dataclass(frozen=True)
class FabricSetup:
    """A fabric's settings before its first run: the folder of the logs, and its runs' requirements on links.

    `engines`: the link engines that the runs name ("auto": any); `profiles`: every link profile that they use.
    """

    logs: Path
    engines: tuple[str, ...]
    profiles: tuple[LinkProfile, ...]


@dataclass(frozen=True)
class FabricKind:
    """A fabric and its abilities. It has either `open` or `launch`.

    `open`: runs are driven by this process, inside the context that it gives. `launch`: a whole comparison is driven
    by a controller's container, which reads it as text (spec, folder of the results, most nodes of a run, where to
    print), and whose exit status is returned; nodes may then have files that this machine lacks. `modelled`: time is
    virtual and links are a model of rate and delay, so that gradients need a pace and PyTorch's own collectives
    cannot run. `operators`: links may be changed by hand while a run trains. `resumable`: runs continue from
    checkpoints. `can_encrypt`: nodes reach each other over connections that can be encrypted; `encrypts`: they are,
    unless a spec says otherwise. `revives`: a lost node can be started again while its run continues.
    `reaches_core`: shared links can be limited where all nodes' links meet.
    `late_joins`: a node can join a run under way.
    `needs_sandbox`: the command must enter a sandbox before it starts a thread.
    """

    name: str
    open: Callable[[FabricSetup], AbstractContextManager[Fabric]] | None = None
    launch: Launch | None = None
    modelled: bool = False
    operators: bool = False
    resumable: bool = False
    revives: bool = False
    late_joins: bool = False
    can_encrypt: bool = False
    encrypts: bool = False
    needs_sandbox: bool = False
    reaches_core: bool = False

    def __post_init__(self) -> None:
        if (self.open is None) == (self.launch is None):
            raise ValueError(f"fabric {self.name}: declare either open or launch")
        if self.encrypts and not self.can_encrypt:
            raise ValueError(f"fabric {self.name}: encrypts without can_encrypt")

    @property
    def in_containers(self) -> bool:
        """Whether another machine's, or a container's, process drives the runs."""
        return self.launch is not None
