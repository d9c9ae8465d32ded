"""``fit``: the short training loop; ``Trainer`` is the long one.

history = fit(model, next_token_loss, batches(ids, B=16, T=128, rng=rng), steps=1000, lr=3e-3, schedule="cosine")
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from minitf.autodiff.config import config
from minitf.autodiff.errors import did_you_mean
from minitf.autodiff.tensor import Tensor
from minitf.data import text
from minitf.data.loader import Loader
from minitf.kernels.compile import folder
from minitf.models.transformer import Decoder
from minitf.nn.functional import cross_entropy
from minitf.nn.module import Module
from minitf.optim import AdamW, Optimizer
from minitf.training.checkpoint_file import read_checkpoint, write_checkpoint
from minitf.training.trainer import History, Trainer

#: folders of the library that no trained model depends on
USES = ("oracle", "grade", "papers", "cli.py", "__main__.py")


def next_token_loss(model: Module, inputs: Any, targets: Any) -> Tensor:
    """The mean cross-entropy of ``model(inputs)`` with the targets, in nats a token."""
    return cross_entropy(model(inputs), targets)


def fit(
    model: Module,
    loss: Callable[..., Tensor],
    batches: Iterable[Any],
    *,
    steps: int,
    optimizer: Optimizer | None = None,
    lr: float | None = None,
    schedule: str | Callable[[int], float] | None = None,
    clip: float | None = None,
    progress: bool = True,
    evaluate: Callable[[Module], Any] | None = None,
    every: int | None = None,
) -> History:
    """Trains ``model`` for ``steps`` batches and returns what happened.

    loss: ``loss(model, *batch)``, a scalar; a batch that is no tuple is one argument.
    optimizer: or ``lr`` for AdamW with its defaults.
    schedule: factor of the learning rate: a function of the step, which counts from 0; or "linear" or "cosine", which
        warm up for a tenth of the steps and then fall to 0.
    clip: the largest norm that all gradients together may have.
    progress: show a progress bar.
    evaluate: called with the model in ``eval()`` mode, recording nothing, after each ``every`` steps and at the end.

    Raises FloatingPointError, naming the step and the first parameter or module that is to blame, when the loss or a gradient is
    not finite; the parameters are those before that step.
    """
    if (optimizer is None) == (lr is None):
        raise ValueError("fit: give either an optimizer, or lr for AdamW")
    if optimizer is None:
        assert lr is not None
        optimizer = AdamW(model.parameters(), lr)
    return _Fit(
        model,
        loss,
        batches,
        optimizer=optimizer,
        steps=steps,
        schedule=schedule,
        clip=clip,
        evaluate=evaluate,
        every=every,
        progress=progress,
    ).run()


class _Fit(Trainer):
    _name = "fit"


def fit_classifier(
    model: Module,
    data: tuple[np.ndarray, np.ndarray],
    steps: int,
    *,
    rng: np.random.Generator,
    lr: float = 1e-3,
    B: int = 32,
    weight_decay: float = 0.05,
    **options: Any,
) -> History:
    """Trains ``model(x)`` to be the logits of the labels y, for ``data = (x, y)`` with an example a row.

    AdamW, a warm-up over a tenth of the steps and then half a cosine; ``rng`` shuffles; ``options`` are those of ``fit``.
    """
    x, y = data
    batches = Loader((np.asarray(x), np.asarray(y)), B=min(B, len(x)), rng=rng, drop_last=True)
    optimizer = AdamW(model.parameters(), lr, weight_decay=weight_decay)
    loss = lambda model, x, y: cross_entropy(model(x), y)
    return fit(model, loss, batches, steps=steps, optimizer=optimizer, **{"schedule": "cosine", **options})


# -- tiny trained models ------------------------------------------------------------------------------------------

#: name -> ``() -> (model, train)``: a model with its first weights, and what trains it
SUBJECTS: dict[str, Callable[[], tuple[Module, Callable[[], Any]]]] = {}


def subject(name: str) -> Callable[[Any], Any]:
    """Registers a function ``() -> (model, train)`` for ``trained``; all its randomness has fixed seeds.

    Raises ValueError for a name that is taken.
    """

    def register(
        make: Callable[[], tuple[Module, Callable[[], Any]]],
    ) -> Callable[[], tuple[Module, Callable[[], Any]]]:
        if name in SUBJECTS:
            raise ValueError(f"subject: there is a {name!r} already, from {SUBJECTS[name].__module__}")
        SUBJECTS[name] = make
        return make

    return register


def trained(name: str) -> Module:
    """The model that ``subject(name)`` makes, trained, in ``eval()`` mode. The first call trains, later ones read a file.

    Files are beside compiled kernels (below MINITF_CACHE), named after a hash of the sources of the library and of the
    module that the subject is defined in: an edit trains anew. Where nothing can be written, every call trains.

    Raises ValueError for an unknown name.
    """
    if name not in SUBJECTS:
        raise ValueError(f"trained: there is no subject {name!r}{did_you_mean(name, SUBJECTS)}")
    model, train = SUBJECTS[name]()
    path = folder().parent / "trained" / f"{name}-{_sources(SUBJECTS[name].__code__.co_filename)}.npz"
    try:
        return model.load_state_dict(read_checkpoint(path)).eval()
    except (OSError, ValueError):  # missing or damaged
        train()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_checkpoint(path, model.state_dict())
    return model.eval()


def _sources(*others: str) -> str:
    """The hash of everything a trained model may depend on: what lies below the floor of the three uses, and ``others``."""
    root = Path(__file__).parents[1]
    files = [file for file in sorted(root.rglob("*.py")) if file.relative_to(root).parts[0] not in USES]
    total = hashlib.sha256()
    for file in [*files, *map(Path, others)]:
        content = file.read_bytes()
        total.update(f"{file.name} {len(content)} ".encode() + content)
    return total.hexdigest()[:16]


@subject("tiny_lm")
def _tiny_lm() -> tuple[Module, Callable[[], Any]]:
    """A language model of bytes, 4 layers of width 64, that has read Python's documentation."""
    rng = np.random.default_rng(0)
    with config(dtype="float32"):
        model = Decoder(257, 64, 4, 4, max_length=64, rng=rng)
    ids, _ = text.split(text.byte_text(text.python_documentation()))
    stream = text.batches(ids, B=16, T=64, rng=rng)
    return model, lambda: fit(model, next_token_loss, stream, steps=800, lr=3e-3, schedule="cosine", clip=1.0)
