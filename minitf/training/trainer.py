"""``Trainer``: the training loop in its long form, which can be killed at any moment and goes on bit for bit.

    trainer = Trainer(model, next_token_loss, Loader(data, B=16, rng=rng), steps=10_000, schedule="cosine",
                      optimizer=AdamW(model.parameters(), 3e-3), clip=1.0, checkpoint_dir="run", checkpoint_every=500)
    trainer.resume()                                # does nothing the first time
    history = trainer.run()

A step reads ``accumulate`` batches, adds up their gradients as if they were one batch, refuses what is not finite, clips,
updates, averages. Between two steps everything that the rest of the run depends on is in ``state_dict``: parameters and
buffers, the optimizer's state, the average, every random generator, the place in the data, and what happened so far.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.autodiff.tensor import Tensor, no_grad
from minitf.nn.module import Module
from minitf.optim import EMA, Optimizer, clip_grad_norm, grad_norm, schedules
from minitf.training.checkpoint_file import read_checkpoint, write_checkpoint

SCHEDULES = {"linear": schedules.linear, "cosine": schedules.cosine}


@dataclass
class History:
    """What happened in a run: lists with one entry a step, and one an evaluation.

    steps, losses, lrs, grad_norms: of the training steps, which count from 0; norms are those before clipping.
    evaluation_steps, evaluations: how many steps had been made, and what ``evaluate`` returned.
    """

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    lrs: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    evaluation_steps: list[int] = field(default_factory=list)
    evaluations: list[Any] = field(default_factory=list)


class Trainer:
    """Trains ``model`` on ``batches`` for a number of steps.

    loss: ``loss(model, *batch)``, a scalar: a mean over what the batch counts; a batch that is no tuple is one argument.
    batches: a ``Loader``, which is read epoch after epoch, or an endless iterator.
    steps: or ``epochs`` of a ``Loader``.
    schedule: factor of the learning rate: a function of the step, which counts from 0; or "linear" or "cosine", which
        warm up for a tenth of the steps and then fall to 0.
    accumulate: batches a step. Their losses are weighted by ``count(*batch)``, the number of things that a loss is the mean
        of (by default the rows of a batch's first array), so that the step is that of one large batch.
    clip: the largest norm that all gradients together may have.
    ema: an average of the model, updated after every step; it is what ``evaluate`` sees.
    evaluate: called with the model in ``eval()`` mode, recording nothing, after each ``every`` steps and at the end.
    checkpoint_dir: where checkpoints go: after each ``checkpoint_every`` steps, at the end, and after the step in which the
        run is interrupted (Ctrl-C; a second one does not wait). The newest ``keep`` stay.
    generators: by name, random generators that batches or the loss draw from; those of the model's modules are known.
    callbacks: called with the trainer after every step.
    progress: show a progress bar.

    Raises ValueError for senseless options, and if ``checkpoint_dir`` is given with batches whose place nobody can tell.
    """

    _name = "Trainer"

    def __init__(
        self,
        model: Module,
        loss: Callable[..., Tensor],
        batches: Iterable[Any],
        *,
        optimizer: Optimizer,
        steps: int | None = None,
        epochs: int | None = None,
        schedule: str | Callable[[int], float] | None = None,
        accumulate: int = 1,
        count: Callable[..., float] | None = None,
        clip: float | None = None,
        ema: EMA | None = None,
        evaluate: Callable[[Module], Any] | None = None,
        every: int | None = None,
        checkpoint_dir: str | Path | None = None,
        checkpoint_every: int | None = None,
        keep: int = 3,
        generators: Mapping[str, np.random.Generator] | None = None,
        callbacks: Sequence[Callable[[Trainer], Any]] = (),
        progress: bool = True,
    ):
        for name, number in (("accumulate", accumulate), ("keep", keep), ("checkpoint_every", checkpoint_every)):
            if number is not None and number < 1:
                raise ValueError(f"{self._name}: {name} must be at least 1, got {number}")
        if (steps is None) == (epochs is None):
            raise ValueError(f"{self._name}: give either steps or epochs")
        if epochs is not None:
            if not hasattr(batches, "__len__"):
                raise ValueError(f"{self._name}: epochs needs batches with a length, such as a Loader; give steps")
            steps = math.ceil(epochs * len(batches) / accumulate)  # pyright: ignore[reportArgumentType]
        assert steps is not None
        if steps < 1:
            raise ValueError(f"{self._name}: steps must be at least 1, got {steps}")
        if every is not None and (evaluate is None or every < 1):
            raise ValueError(f"{self._name}: every says after how many steps (at least 1) to call evaluate; give both")
        if checkpoint_every is not None and checkpoint_dir is None:
            raise ValueError(f"{self._name}: checkpoint_every needs a checkpoint_dir")
        if checkpoint_dir is not None and not (hasattr(batches, "state_dict") or generators):
            raise ValueError(
                f"{self._name}: a run on these batches could not be resumed; give a Loader, or name by generators= what "
                "an endless iterator draws from"
            )
        self.model, self.loss, self.batches, self.optimizer = model, loss, batches, optimizer
        self.steps, self.accumulate, self.count, self.clip, self.ema = steps, accumulate, count, clip, ema
        self.factor = _factor(self._name, schedule, steps)
        self.evaluate, self.every = evaluate, every
        self.checkpoint_dir = None if checkpoint_dir is None else Path(checkpoint_dir)
        self.checkpoint_every, self.keep = checkpoint_every, keep
        self.generators = {**dict(model.named_generators()), **(generators or {})}
        self.callbacks, self.progress = callbacks, progress
        #: steps made so far, and what happened in them
        self.step, self.history = 0, History()
        self._source: Iterator[Any] | None = None

    # -- the loop ---------------------------------------------------------------------------------------------------

    def run(self) -> History:
        """Makes the steps that are left and returns what happened in all of them.

        Raises FloatingPointError, naming the step and who is to blame, when the loss or a gradient is not finite; the
        parameters are those before that step. FileExistsError if ``checkpoint_dir`` has another run that was not resumed.
        """
        if self.step == 0 and self.checkpoints():
            raise FileExistsError(
                f"{self._name}: {self.checkpoint_dir} has checkpoints of a run already; call resume() first, or choose "
                "another folder"
            )
        self.model.train()
        with _bar(self.step, self.steps, self.progress) as bar, _interrupts(self.checkpoint_dir is not None) as came:
            while self.step < self.steps:
                self._train_step()
                bar.update()
                bar.set_postfix(loss=f"{self.history.losses[-1]:.4f}", refresh=False)
                for callback in self.callbacks:
                    callback(self)
                last = self.step == self.steps
                if self.evaluate is not None and (last or (self.every and self.step % self.every == 0)):
                    self._evaluate(self.evaluate)
                due = self.checkpoint_every and self.step % self.checkpoint_every == 0
                if self.checkpoint_dir is not None and (last or due or came()):
                    self.save()
                if came():
                    raise KeyboardInterrupt(f"stopped after {self.step} of {self.steps} steps")
        return self.history

    def _train_step(self) -> None:
        batches = [self._next_batch() for _ in range(self.accumulate)]
        weights = self._weights(batches)
        draws = self._draws()
        self.optimizer.zero_grad()
        total = 0.0
        for batch, weight in zip(batches, weights, strict=True):
            value = self._loss(batch)
            if not math.isfinite(value.item()):
                raise FloatingPointError(self._blame(f"the loss is {value.item()}", batches, draws))
            (value if weight == 1 else value * weight).backward()
            total += value.item() * weight
        trained = self.optimizer.parameters()
        norm = grad_norm(trained) if self.clip is None else clip_grad_norm(trained, self.clip)
        if not math.isfinite(norm):
            raise FloatingPointError(self._blame_gradient(batches, draws))
        with _scaled(self.optimizer, self.factor(self.step)):
            self.history.lrs.append(self.optimizer.param_groups[0]["lr"])
            self.optimizer.step()
        if self.ema is not None:
            self.ema.update(self.model)
        self.history.steps.append(self.step)
        self.history.losses.append(total)
        self.history.grad_norms.append(norm)
        self.step += 1

    def _next_batch(self) -> Any:
        for _ in range(2):  # a Loader may stand at the very end of an epoch
            if self._source is None:
                self._source = iter(self.batches)
            with contextlib.suppress(StopIteration):
                batch = next(self._source)
                return batch if isinstance(batch, tuple) else (batch,)
            if hasattr(self.batches, "state_dict"):
                self._source = None
        raise ValueError(
            f"{self._name}: the batches ran out after {self.step} of {self.steps} steps; pass an endless iterator, such "
            "as data.text.batches(...) or itertools.cycle(...), or a data.loader.Loader"
        )

    def _weights(self, batches: list[Any]) -> list[float]:
        """What part of everything that is counted in this step each batch has; batches without any are left out."""
        if self.accumulate == 1:
            return [1.0]
        counts = [float(self.count(*batch) if self.count else len(batch[0])) for batch in batches]
        if not sum(counts) > 0:
            raise ValueError(f"{self._name}: nothing is counted in the batches of step {self.step}")
        batches[:] = [batch for batch, n in zip(batches, counts, strict=True) if n]
        return [n / sum(counts) for n in counts if n]

    def _loss(self, batch: tuple[Any, ...]) -> Tensor:
        value = self.loss(self.model, *batch)
        if not isinstance(value, Tensor) or value.size != 1:
            raise ShapeError(f"{self._name}: loss must return a scalar Tensor, it returned {value!r}")
        return value

    def _evaluate(self, evaluate: Callable[[Module], Any]) -> None:
        self.model.eval()
        with no_grad():
            self.history.evaluations.append(evaluate(self.model if self.ema is None else self.ema.module))
        self.history.evaluation_steps.append(self.step)
        self.model.train()

    # -- what is not finite -----------------------------------------------------------------------------------------

    def _blame(self, what: str, batches: list[Any], draws: dict[str, Any]) -> str:
        for name, p in self.model.named_parameters():
            if not np.isfinite(p.data).all():
                return f"{self._name}: {what} at step {self.step}; parameter {name} is not finite"
        culprit = self._first_output_not_finite(batches, draws)
        if culprit is not None:
            return f"{self._name}: {what} at step {self.step}; the first output that is not finite is that of {culprit}"
        return (
            f"{self._name}: {what} at step {self.step}, although all parameters are finite, and so is what every module "
            "returned: look at the batch and the loss, or lower lr"
        )

    def _blame_gradient(self, batches: list[Any], draws: dict[str, Any]) -> str:
        for name, p in self.model.named_parameters():
            if p.grad is not None and not np.isfinite(p.grad.data).all():
                message = f"{self._name}: the gradient of {name} is not finite at step {self.step}"
                culprit = self._first_output_not_finite(batches, draws)
                return f"{message}; " + (
                    "lower lr, or clip"
                    if culprit is None
                    else f"neither is the output of {culprit}, first of all modules"
                )
        return f"{self._name}: the norm of the gradients is too large for their dtype at step {self.step}; lower lr"

    def _first_output_not_finite(self, batches: list[Any], draws: dict[str, Any]) -> str | None:
        """Makes the step's forward passes once more, with the same random draws, and watches every module."""
        now = self._draws()
        self._set_draws(draws)
        try:
            with watched_outputs(self.model) as culprits, no_grad(), np.errstate(all="ignore"):
                for batch in batches:
                    self._loss(batch)
                    if culprits:
                        break
        finally:
            self._set_draws(now)
        # minus infinity is what masked logits are; where there is NaN, it is to blame
        return culprits.get("nan") or culprits.get("inf")

    # -- the state --------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything the rest of the run depends on, copied: nested dicts of arrays and numbers."""
        place = getattr(self.batches, "state_dict", None)
        return {
            "kind": "minitf training run",
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": {"class": type(self.optimizer).__name__, **self.optimizer.state_dict()},
            "ema": None if self.ema is None else {"steps": self.ema.steps, "values": self.ema.state_dict()},
            "generators": self._draws(),
            "batches": None if place is None else place(),
            "history": {
                name: list(values) if name == "evaluations" else np.array(values)
                for name, values in vars(self.history).items()
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes to where the trainer stood whose ``state_dict`` this is.

        Raises ValueError if it was a trainer of another model, optimizer, average or data; nothing is loaded then.
        """
        if not isinstance(state, Mapping) or state.get("kind") != "minitf training run":
            raise ValueError(f"{self._name}: this is not the state of a training run")
        mine = self.state_dict()
        problems = _differences(mine, state)
        if problems:
            told = "\n  ".join(problems)
            raise ValueError(f"{self._name}: the state is of another run, nothing was loaded:\n  {told}")
        try:
            self._take(state)
        except BaseException:
            self._take(mine)
            raise

    def _take(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"]["values"])
            self.ema.steps = state["ema"]["steps"]
        self._set_draws(state["generators"])
        if state["batches"] is not None:
            self.batches.load_state_dict(state["batches"])  # pyright: ignore[reportAttributeAccessIssue]
        self.history = History(
            **{
                name: column.tolist() if isinstance(column, np.ndarray) else list(column)
                for name, column in state["history"].items()
            }
        )
        self.step, self._source = state["step"], None

    def _draws(self) -> dict[str, Any]:
        return {name: rng.bit_generator.state for name, rng in self.generators.items()}

    def _set_draws(self, draws: Mapping[str, Any]) -> None:
        for name, rng in self.generators.items():
            rng.bit_generator.state = draws[name]

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def checkpoints(self) -> list[Path]:
        """The files in ``checkpoint_dir``, oldest first."""
        if self.checkpoint_dir is None:
            return []
        return sorted(self.checkpoint_dir.glob("step-*.npz"), key=lambda path: int(path.stem.removeprefix("step-")))

    def save(self) -> Path:
        """Writes a checkpoint, then removes all but the newest ``keep``. A failure leaves the earlier ones as they are."""
        if self.checkpoint_dir is None:
            raise ValueError(f"{self._name}: save needs a checkpoint_dir")
        self.checkpoint_dir.mkdir(parents=True, exist_ok=True)
        for unfinished in self.checkpoint_dir.glob(".step-*.npz.*"):  # of a process that was killed
            unfinished.unlink(missing_ok=True)
        path = self.checkpoint_dir / f"step-{self.step:08d}.npz"
        write_checkpoint(path, self.state_dict())
        files = self.checkpoints()
        for old in files[: max(0, files.index(path) + 1 - self.keep)]:
            old.unlink(missing_ok=True)
        return path

    def load(self, path: str | Path) -> None:
        """``load_state_dict`` of a checkpoint; ValueError, and nothing loaded, if it is damaged or of another run."""
        state = read_checkpoint(path)
        try:
            self.load_state_dict(state)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} does not fit. {error}") from error

    def resume(self) -> bool:
        """Loads the newest checkpoint in ``checkpoint_dir``; ``run`` goes on from there. False if there is none."""
        if self.checkpoint_dir is None:
            raise ValueError(f"{self._name}: resume needs a checkpoint_dir")
        files = self.checkpoints()
        if files:
            self.load(files[-1])
        return bool(files)


@contextlib.contextmanager
def watched_outputs(model: Module) -> Iterator[dict[str, str]]:
    """Fills a dict while the block runs: "nan" and "inf" -> the first module, in the order in which they finish, whose
    output has such an element; its name and class."""
    culprits: dict[str, str] = {}

    def watch(name: str, module: Module) -> Callable[..., Any]:
        forward = module.forward

        def watched(*args: Any, **kwargs: Any) -> Any:
            out = forward(*args, **kwargs)
            for x in _arrays(out):
                for kind, bad in (("nan", np.isnan), ("inf", np.isinf)):
                    if kind not in culprits and bad(x).any():
                        culprits[kind] = f"{name or 'the model'} ({type(module).__name__})"
            return out

        return watched

    modules = list(model.named_modules())
    before = [vars(module).get("forward") for _, module in modules]
    for name, module in modules:
        vars(module)["forward"] = watch(name, module)
    try:
        yield culprits
    finally:
        for (_, module), forward in zip(modules, before, strict=True):
            if forward is None:
                del vars(module)["forward"]
            else:
                vars(module)["forward"] = forward


def _arrays(value: Any) -> Iterator[np.ndarray]:
    """The floating arrays in what a module returned."""
    if isinstance(value, Tensor | np.ndarray):
        data = value.data if isinstance(value, Tensor) else value
        if data.dtype.kind not in "biuSUO":
            yield data
    elif isinstance(value, Mapping):
        yield from _arrays(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _arrays(item)


def _differences(mine: Mapping[str, Any], state: Mapping[str, Any]) -> list[str]:
    """Why ``state`` cannot be of the same run as ``mine``; what optimizer and loader see themselves is left to them."""
    problems = [f"missing: {part}" for part in mine if part not in state]
    if problems:
        return problems
    ours, theirs = mine["model"], state["model"]
    problems += [f"missing: parameter or buffer {name}" for name in ours if name not in theirs]
    problems += [f"unexpected: parameter or buffer {name}" for name in theirs if name not in ours]
    for name in (name for name in ours if name in theirs):
        here, there = ((x[name].dtype, x[name].shape) for x in (ours, theirs))
        if here != there:
            problems.append(f"{name} is {here[0]} {here[1]} here, {there[0]} {there[1]} in the state")
    if mine["optimizer"]["class"] != state["optimizer"]["class"]:
        problems.append(f"optimizer: {mine['optimizer']['class']} here, {state['optimizer']['class']} in the state")
    for part, what in (("ema", "an average of the model"), ("batches", "a Loader")):
        if (mine[part] is None) != (state[part] is None):
            problems.append(f"{part}: {what} only {'in the state' if mine[part] is None else 'here'}")
    ours, theirs = ({name: rng["bit_generator"] for name, rng in x["generators"].items()} for x in (mine, state))
    if ours != theirs:
        problems.append(f"random generators: {ours or 'none'} here, {theirs or 'none'} in the state")
    return problems


def _factor(name: str, schedule: str | Callable[[int], float] | None, steps: int) -> Callable[[int], float]:
    if schedule is None:
        return lambda step: 1.0
    if callable(schedule):
        return schedule
    if schedule not in SCHEDULES:
        known = ", ".join(SCHEDULES)
        raise ValueError(f"{name}: schedule must be a function of the step or one of {known}, got {schedule!r}")
    fall = SCHEDULES[schedule]
    return lambda step: fall(step, steps, warmup=steps // 10)


@contextlib.contextmanager
def _scaled(optimizer: Optimizer, factor: float) -> Iterator[None]:
    """The learning rates of all groups times ``factor``; afterwards as they were."""
    peaks = [group["lr"] for group in optimizer.param_groups]
    try:
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = float(peak * factor)
        yield
    finally:
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak


@contextlib.contextmanager
def _interrupts(wait: bool) -> Iterator[Callable[[], bool]]:
    """Asks whether the process was interrupted, instead of KeyboardInterrupt in the middle of a step.

    The second interrupt does not wait. Signals reach the main thread only, so that elsewhere there is nothing to do.
    """
    before = signal.getsignal(signal.SIGINT)
    if not wait or threading.current_thread() is not threading.main_thread() or not callable(before):
        yield lambda: False
        return
    came = False

    def note(number: int, frame: Any) -> None:
        nonlocal came
        came = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGINT, before)


def _bar(done: int, steps: int, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(initial=done, total=steps, unit="step", disable=not progress)
