"""The runs that a search draws from: every method of the virtual fabric, with its settings, codecs and graphs."""

from __future__ import annotations

from random import Random
from typing import Any

from gannet.node.methods.registry import METHODS

PLAYERS = "players"  # each player exchanged by a method of its own

CASTS = ("fp32", "fp32", "fp16", "bf16")
_COARSE = ("qsgd-4bit,bucket=8,raw_below=0", "natural-8bit,raw_below=0", "random-k,ratio=0.5,raw_below=0")
_BIASED = ("top-k,ratio=0.4,raw_below=0", "sign,bucket=8,raw_below=0")
_STATIC = ("ring", "complete", "star", "torus", "hypercube", "erdos-renyi")
_UNDIRECTED = (*_STATIC, "random-ring")
_ALL = (*_UNDIRECTED, "exponential", "one-peer-exponential")


def methods() -> tuple[str, ...]:
    """The names that a search knows: methods that the virtual fabric can run, and PLAYERS."""
    return (*(name for name, method in METHODS.items() if not method.not_modelled), PLAYERS)


def settings_of(name: str, random: Random) -> dict[str, Any]:
    """`algorithm`, `codec` and `topology` of a run of that method, as a NodeConfig takes them; or `players` too."""
    if name == PLAYERS:
        able = [each for each in methods() if each != PLAYERS and not METHODS[each].not_per_player]
        generator, discriminator = (settings_of(random.choice(able), random) for _ in range(2))
        return {**generator, "players": {"discriminator": discriminator}}
    method = METHODS[name]
    codecs: tuple[str, ...] = CASTS
    graphs = _STATIC if method.static_graph else _UNDIRECTED if method.symmetric_graph else _ALL
    algorithm: dict[str, Any] = {"name": name}
    collective = random.choice(("server", "ring"))
    match name:
        case "dp-oadam":
            algorithm |= {"every": random.choice((1, 1, 3)), "rounds": random.choice((1, 1, 2))}
            algorithm["overlap"] = random.random() < 0.4
        case "dposg":
            algorithm["rounds"] = random.choice((1, 1, 3))
        case "gossip-pga":
            algorithm |= {"global_every": random.choice((2, 5)), "collective": collective}
        case "choco":
            algorithm["gamma"] = random.choice((0.2, 0.5))
            codecs = (*CASTS, *_COARSE, *_BIASED)
        case "deepsqueeze":
            algorithm["eta"] = random.choice((0.1, 0.3))
            codecs = (*CASTS, *_COARSE, *_BIASED)
        case "power-gossip":
            algorithm |= {"rank": random.choice((1, 2)), "iterations": random.choice((1, 2, 3))}
        case "ad-psgd":
            algorithm["staleness"] = random.choice((None, 0, 3))
        case "cp-oadam":
            algorithm |= {"collective": collective, "average": random.choice(("parameters", "gradients"))}
            if algorithm["average"] == "parameters":
                algorithm["every"] = random.choice((1, 3))
            else:
                codecs = (*CASTS, *_COARSE)
        case "fedgan":
            algorithm["every"] = random.choice((1, 4))
        case "diloco":
            algorithm |= {"every": random.choice((1, 4)), "collective": collective}
        case "md-gan":
            algorithm |= {"local_steps": random.choice((1, 2)), "swap_every": random.choice((None, 2))}
            algorithm["batches"] = random.choice((None, 2))
    return {"algorithm": algorithm, "codec": random.choice(codecs), "topology": random.choice(graphs)}


def on_loss_of(method: str, settings: dict[str, Any], random: Random) -> dict[str, Any]:
    """`on_loss` of a run with these settings, or none: averages that can be formed again are, in every second run."""
    if method == PLAYERS:
        return {}
    able = METHODS[method].model_validate(settings["algorithm"]).on_loss
    if "reform" in able and random.random() < 0.5:
        return {"on_loss": "reform"}
    return {"on_loss": "stop"} if random.random() < 0.05 else {}
