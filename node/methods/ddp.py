"""ddp"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from gannet.node.tasks.config import Settings

if TYPE_CHECKING:
    pass


class DdpConfig(Settings):
    """PyTorch's own data parallelism: DistributedDataParallel over gloo (Li et al., VLDB 2020), every step.

    `hook`: its communication hook. "none" sends float32, "fp16" half precision, "powersgd" matrices P, Q of rank
    `powersgd_rank` with error feedback (Vogels et al., NeurIPS 2019), from step `start_powersgd_iter` (counted
    from 0) on, and float32 before; the hook wants 2 at least.
    """

    name: Literal["ddp"]
    hook: Literal["none", "fp16", "powersgd"] = "none"
    powersgd_rank: PositiveInt | None = None
    start_powersgd_iter: Annotated[int, Field(ge=2)] | None = None

    @model_validator(mode="after")
    def _settings_of_powersgd(self) -> DdpConfig:
        given = [name for name in ("powersgd_rank", "start_powersgd_iter") if getattr(self, name) is not None]
        if given and self.hook != "powersgd":
            raise ValueError(f"{given[0]} belongs to hook powersgd, and the hook is {self.hook}: leave it out")
        return self

    @property
    def rank(self) -> int:
        """Rank of PowerSGD's matrices."""
        return self.powersgd_rank or 1

    @property
    def start(self) -> int:
        """How many steps PowerSGD leaves uncompressed."""
        return self.start_powersgd_iter or 2
