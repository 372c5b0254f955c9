"""Layers whose buffers are no statistics to be averaged: BatchNorm that counts its batches, and spectral norms.

A counter's mean between nodes is no count, so BatchNorm with momentum=None, whose statistics are the mean of all
batches so far, keeps its counter on the node, in the task's state; others need none. A spectral norm of torch holds
estimates u and v of the first singular vectors of a weight. Averaged, they are shorter than 1 and fit none of the
nodes' weights; training finds them again by a power iteration in each pass, evaluation takes them as they are.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.spectral_norm import SpectralNorm

_ITERATIONS = 50


def take_counters(network: nn.Module) -> list[Tensor]:
    """Take the counters of batches out of a network's buffers; those that its statistics depend on, in order."""
    counters = []
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.num_batches_tracked is not None:
            counter = module.num_batches_tracked
            module.num_batches_tracked = None
            if module.momentum is None:
                del module.num_batches_tracked
                module.num_batches_tracked = counter  # no buffer any more, and so not in x
                counters.append(counter)
    return counters


@torch.no_grad()
def settle_spectral_norms(networks: Iterable[nn.Module]) -> None:
    """Bring each u and v to the first singular vectors of the weight that is there now, in evaluation mode."""
    for network in networks:
        for module in network.modules():
            if isinstance(module, ParametrizationList):
                norms = [each for each in module if isinstance(each, _SpectralNorm)]
                for norm in norms:
                    norm.train()
                for _ in range(_ITERATIONS if norms else 0):
                    module()
                for norm in norms:
                    norm.eval()
            for hook in module._forward_pre_hooks.values():
                if isinstance(hook, SpectralNorm):
                    for _ in range(_ITERATIONS):
                        hook.compute_weight(module, do_power_iteration=True)
