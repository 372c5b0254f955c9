"""`gannet net exec`: runs a command inside a node, in its namespace or its container."""

from __future__ import annotations

import os
from collections.abc import Sequence

from gannet.fabrics.exec_errors import NoNode, NoProgram
from gannet.fabrics.namespaces.exec import become, find_place

# As with env, chroot and docker: `gannet net exec` itself failed; 126 and 127 are about the program.
FAILED = 125


class CannotEnter(RuntimeError):
    """The program was not started; `status` is the exit status to end with."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def enter_and_run(controller: str | None, rank: int, command: Sequence[str], as_root: bool) -> int:
    """Run `command` inside node `rank` of a live network; returns its exit status, or is replaced by it.

    Raises CannotEnter.
    """
    from gannet.fabrics.links.operator_client import NoController, find_controller

    try:
        address = controller or find_controller()
        if address.startswith("unix:"):
            become(find_place(address, rank), command, os.environ, as_root)
        from gannet.fabrics.containers.exec import find_container, run_in

        port = address.rpartition(":")[2]
        place = find_container(int(port) if port.isdigit() else None, rank)
        if as_root:
            raise NoNode(
                f"--root is for namespaces; in a container: docker exec --privileged {place.container[:12]} …"
            )
        return run_in(place, command)
    except (NoNode, NoController) as error:
        raise CannotEnter(str(error), FAILED) from None
    except NoProgram as error:
        raise CannotEnter(str(error), error.status) from None
