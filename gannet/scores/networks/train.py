"""Trains FashionNet on the full Fashion-MNIST: `python -m gannet.scores.networks.train --root FOLDER`.

FOLDER holds torchvision's FashionMNIST or the four published idx files (Debian: dataset-fashion-mnist).
Weights are rounded to half precision before the test: the accuracy in the metadata is the shipped file's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from gannet.node.data.config import DataConfig
from gannet.node.data.datasets import load_split
from gannet.node.data.shard import Shard
from gannet.scores.networks.fashionnet import WEIGHTS, FashionNet

SEED = 1
EPOCHS = 8
BATCH = 128
PEAK_RATE = 4e-3
WEIGHT_DECAY = 1e-3
SHIFT_PIXELS = 2


def augment(images: Tensor, random: torch.Generator) -> Tensor:
    """A batch, mirrored by a coin and shifted by up to SHIFT_PIXELS: one decision a batch keeps it cheap."""
    if torch.rand((), generator=random) < 0.5:
        images = images.flip(-1)
    down, right = torch.randint(0, 2 * SHIFT_PIXELS + 1, (2,), generator=random).tolist()
    size = images.shape[-1]
    return F.pad(images, (SHIFT_PIXELS,) * 4)[..., down : down + size, right : right + size]


def train(data: Shard) -> FashionNet:
    torch.set_num_threads(1)  # the order of sums, and with it the weights, would depend on it
    torch.manual_seed(SEED)
    random = torch.Generator().manual_seed(SEED)
    network = FashionNet().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * (len(data) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps)
    for epoch in range(EPOCHS):
        network.train()
        order = torch.randperm(len(data), generator=random)
        total = 0.0
        for index in torch.split(order[: len(data) // BATCH * BATCH], BATCH):
            logits = network.classify(network(augment(data.images[index], random)))
            loss = F.cross_entropy(logits, data.labels[index], label_smoothing=0.05)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            total += loss.item() * BATCH
        print(f"epoch {epoch + 1}/{EPOCHS}  loss {total / len(data):.4f}", flush=True)
    return network


@torch.no_grad()
def accuracy(network: FashionNet, data: Shard) -> float:
    network.eval()
    predicted = torch.cat([network.classify(network(images)).argmax(1) for images in torch.split(data.images, 500)])
    return (predicted == data.labels).double().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True, help="folder of the full Fashion-MNIST")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name(WEIGHTS))
    arguments = parser.parse_args()
    config = DataConfig(name="fashion-mnist", root=arguments.root)
    network = train(load_split(config, train=True))
    weights = {
        name: tensor.half().contiguous()
        for name, tensor in network.state_dict().items()
        if tensor.is_floating_point()
    }
    network.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, strict=False)
    reached = accuracy(network, load_split(config, train=False))
    about = {
        "name": "FashionNet",
        "trained_on": "Fashion-MNIST, 60,000 training images",
        "test_accuracy": round(reached, 4),
        "features": FashionNet.num_features,
        "seed": SEED,
        "epochs": EPOCHS,
    }
    save_file(weights, arguments.out, {key: json.dumps(value) for key, value in about.items()})
    print(f"test accuracy {reached:.4f}; wrote {arguments.out}")


if __name__ == "__main__":
    main()
