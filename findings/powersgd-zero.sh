#!/usr/bin/env bash
# torch 2.14.1: DDP's PowerSGD hook never again averages a parameter whose gradient was zero in the first compressed step.
# One would guess that the next gradient is compressed as any other, as its error memory takes up what was lost. The hook
# begins each step with the last one's Q; after a gradient of zero Q is zero, P = M Q is zero, and so is the next Q,
# whatever M is. The error memory grows without end. It is the same with orthogonalization_epsilon (as its documentation
# advises, set here) and for what find_unused_parameters leaves out in that step, as players of a GAN that take turns.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > train.py <<'PY'
import tempfile

import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo", f"file://{tempfile.mkdtemp()}/store", rank=0, world_size=1)
layer = torch.nn.Linear(32, 32, bias=False)
model = DistributedDataParallel(layer)
state = PowerSGDState(None, start_powerSGD_iter=2, orthogonalization_epsilon=1e-8)
model.register_comm_hook(state, powerSGD_hook)
norms = []
for step in range(30):
    layer.zero_grad()
    scale = 0.0 if step == 2 else 1.0  # the first compressed step
    (scale * model(torch.ones(1, 32)).sum()).backward()
    norms.append(layer.weight.grad.norm().item())
print("norm of the averaged gradient:", [round(norm, 3) for norm in norms])
print("norm of the error memory:", round(state.error_dict[0].norm().item(), 1))
assert norms[0] == norms[1] == 32 and not any(norms[2:])
PY
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.14.1 numpy==2.4.6
venv/bin/python -W ignore train.py
