"""From a folder to a model and back: which class a configuration means, and everything that is checked on the way."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from minitf.autodiff.errors import did_you_mean
from minitf.files import write_atomically
from minitf.models.checkpoints.configuration import CheckpointError, Configuration, read_json
from minitf.models.checkpoints.files import read_folder, write_folder
from minitf.models.checkpoints.names import to_ours, to_theirs
from minitf.nn.module import Module, unfilled

#: the modules that register the families, imported when one is asked for
FAMILIES = {
    "gpt2": "gpt2", "llama": "llama", "bert": "bert", "roberta": "roberta", "electra": "electra",
    "distilbert": "distilbert", "t5": "t5", "mt5": "t5", "bart": "bart", "vit": "vit", "deit": "vit", "ctrl": "ctrl",
}  # fmt: skip
TASKS = (
    "base", "masked-lm", "causal-lm", "seq2seq-lm", "replaced-token-detection", "image-classification",
    "image-classification-with-teacher",
    "sequence-classification", "token-classification", "question-answering", "multiple-choice",
)  # fmt: skip


class AutoModel:
    """Picks the class of a model from its configuration.

    A registered class has ``architecture``, its name in ``config.json``; ``names``, a ``Names``; a constructor
    ``(config, *, rng)``; and keeps the configuration as ``config``.
    """

    _families: ClassVar[dict[str, tuple[type[Configuration], dict[str, Any]]]] = {}

    @classmethod
    def register(cls, configuration: type[Configuration], tasks: dict[str, Any]) -> None:
        """Makes a family known: its configuration, and for each task (see ``TASKS``) the class of its models."""
        for task in tasks:
            if task not in TASKS:
                raise ValueError(f"AutoModel.register: unknown task {task!r}; there are: {', '.join(TASKS)}")
        cls._families[configuration.model_type] = (configuration, dict(tasks))

    @classmethod
    def family(cls, model_type: Any) -> tuple[type[Configuration], dict[str, Any]]:
        """(configuration, {task: class}) of a family. Raises CheckpointError for one that is not registered."""
        known = sorted({*FAMILIES, *cls._families})
        if not isinstance(model_type, str) or model_type not in known:
            hint = did_you_mean(model_type, known) if isinstance(model_type, str) else ""
            raise CheckpointError(f"unknown model_type {model_type!r}{hint}; known are: {', '.join(known)}")
        if model_type not in cls._families:
            importlib.import_module(f"minitf.models.{FAMILIES[model_type]}")
        return cls._families[model_type]

    @classmethod
    def configuration(cls, values: dict[str, Any]) -> Configuration:
        """The configuration that an object as ``config.json`` holds it means."""
        return cls.family(values.get("model_type"))[0].from_dict(values)

    @classmethod
    def model_class(cls, config: Configuration, task: str | None = None) -> Any:
        """The class for a configuration: for ``task`` or, by default, the one that ``architectures`` names."""
        tasks = cls.family(config.model_type)[1]
        if task is not None:
            if task not in tasks:
                raise ValueError(f"{config.model_type} has no model for task {task!r}; there are: {', '.join(tasks)}")
            return tasks[task]
        if not config.architectures:
            return tasks["base"] if "base" in tasks else next(iter(tasks.values()))
        named = {each.architecture: each for each in tasks.values()}
        for architecture in config.architectures:
            if architecture in named:
                return named[architecture]
        raise CheckpointError(
            f"architecture {config.architectures[0]!r} is not implemented; of {config.model_type} there are: "
            f"{', '.join(named)}. The tasks {', '.join(map(repr, tasks))} choose one of them"
        )

    @classmethod
    def from_config(cls, config: Configuration, task: str | None = None, *, rng: np.random.Generator) -> Any:
        """A model with random weights."""
        return cls.model_class(config, task)(config, rng=rng)


def load_pretrained(folder: str | os.PathLike[str], task: str | None = None, *, ignore_unexpected: bool = False) -> Any:
    """The model in a folder with ``config.json`` and ``*.safetensors``, in eval mode and in the configured dtype.

    task: which of the family's models (see ``AutoModel``), if not the one that the configuration names.
    ignore_unexpected: tensors that the model does not have, such as the head of another task, are left out; otherwise
        they are an error, like missing ones.

    Raises CheckpointError, which says what is wrong, for anything that does not fit; FileNotFoundError for missing files.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"load_pretrained: there is no folder {folder}; models are not downloaded")
    config = AutoModel.configuration(read_json(folder / "config.json"))
    kind = AutoModel.model_class(config, task)
    tensors = read_folder(folder)
    config = config.fitted(tensors)
    for name in config.depth:
        if getattr(config, name) > len(tensors):
            raise CheckpointError(
                f"config.json says {name} = {getattr(config, name)}, but the file holds {len(tensors)} tensors"
            )
    try:
        with unfilled():
            model = kind(config, rng=np.random.default_rng(0))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"config.json makes no model: {error}") from None
    model.load_state_dict(to_ours(model, model.names, tensors, ignore_unexpected=ignore_unexpected))
    return model.eval()


def save_pretrained(model: Module, folder: str | os.PathLike[str], *, max_shard_size: int | None = None) -> None:
    """Writes ``config.json`` and the weights into a folder, which is made if it is not there.

    max_shard_size: in bytes; more than that is cut into several files with an index.
    """
    config = getattr(model, "config", None)
    if not isinstance(config, Configuration):
        raise TypeError(
            f"save_pretrained: {type(model).__name__} has no configuration; the families that have one are: "
            f"{', '.join(FAMILIES)}"
        )
    known: Any = model
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.data for name, value in [*model.named_parameters(), *model.named_buffers()]}
    dtype = str(next(iter(state.values())).dtype) if state else "float32"
    written = {**config.to_dict(), "architectures": [known.architecture], "torch_dtype": dtype}
    write_folder(to_theirs(model, known.names, state), folder, max_shard_size)
    write_atomically(folder / "config.json", json.dumps(written, indent=2) + "\n")
