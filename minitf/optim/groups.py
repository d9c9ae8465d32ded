"""Parameter groups: which weights decay, and how fast each layer learns.

Decay pulls weights to 0, so it is for matrices, whose size the norms behind them make meaningless. It is not for what has
a scale of its own: biases, the weights of norms, and the A_log and D of state-space layers.

What a pretrained model has learned first is the most general, so in fine-tuning early layers move less. From the output
down, each layer learns at ``decay`` times the rate of the one above it:

    rate       lr        lr decay ... lr decay^L        lr decay^(L+1)
    of         head      block L  ...    block 1        embeddings
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minitf.autodiff.tensor import Tensor
from minitf.nn.layers import Embedding
from minitf.nn.module import Module

UNDECAYED = ("bias", "A_log", "D")


def decoupled_groups(
    model: Module, weight_decay: float, *, embeddings: bool = True, factors: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """The parameters of ``model`` in groups by their ``weight_decay``, which is 0 for parameters with fewer than two axes,
    such as all those of norms, and for those named bias, A_log or D.

    embeddings: whether their tables decay. factors: of the decay, by the beginning of a parameter's name, for those that
    decay at all: ``{"head": 100}`` lets the head be adapted to few examples (Zhai and others, Scaling Vision Transformers).

    Raises ValueError for a factor that no parameter's name begins with. Parameters that are not trained are left out.
    """
    decays = _decays(model, weight_decay, embeddings, factors)
    return _grouped([(p, {"weight_decay": decays[name]}) for name, p in _trained(model)])


def layerwise_learning_rates(
    model: Module,
    lr: float,
    decay: float = 0.95,
    *,
    blocks: str = "blocks",
    weight_decay: float | None = None,
) -> list[dict[str, Any]]:
    """The parameters of ``model`` in groups by their ``lr``, see above.

    blocks: the attribute with the list of L blocks. What the model has before it counts as embeddings, what comes after
    it (a last norm, the head) as the head (choice). weight_decay: split each group as ``decoupled_groups`` does.

    Raises ValueError if the model has no such blocks. Parameters that are not trained are left out.
    """
    if not 0 < decay <= 1:
        raise ValueError(f"layerwise_learning_rates: decay must be in (0, 1], got {decay!r}")
    trained = _trained(model)
    block = [int(name.split(".")[1]) if name.startswith(f"{blocks}.") else None for name, _ in trained]
    inside = [i for i, number in enumerate(block) if number is not None]
    if not inside:
        raise ValueError(f"layerwise_learning_rates: {type(model).__name__} has no trained parameters in {blocks!r}")
    L = len(getattr(model, blocks))
    decays = None if weight_decay is None else _decays(model, weight_decay)
    parameters = []
    for i, ((name, p), number) in enumerate(zip(trained, block, strict=True)):
        below = L - number if number is not None else L + 1 if i < inside[0] else 0
        options = {"lr": lr * decay**below}
        parameters.append((p, options if decays is None else {**options, "weight_decay": decays[name]}))
    return _grouped(parameters)


def _decays(
    model: Module, weight_decay: float, embeddings: bool = True, factors: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Each parameter's weight decay, by its name."""
    tables = {id(module.weight) for module in model.modules() if isinstance(module, Embedding)}
    spared = set() if embeddings else tables
    named = dict(model.named_parameters())
    decays = {
        name: 0.0 if id(p) in spared or p.ndim < 2 or name.split(".")[-1] in UNDECAYED else weight_decay
        for name, p in named.items()
    }
    for start, factor in (factors or {}).items():
        chosen = [name for name in named if name.startswith(start)]
        if not chosen:
            raise ValueError(f"decoupled_groups: no parameter's name begins with {start!r}")
        decays.update({name: factor * decays[name] for name in chosen})
    return decays


def _trained(model: Module) -> list[tuple[str, Tensor]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def _grouped(parameters: list[tuple[Tensor, dict[str, float]]]) -> list[dict[str, Any]]:
    """Those with equal options together, in the order in which the options come first."""
    groups: dict[tuple[float, ...], dict[str, Any]] = {}
    for p, options in parameters:
        groups.setdefault(tuple(options.values()), {"params": [], **options})["params"].append(p)
    return list(groups.values())
