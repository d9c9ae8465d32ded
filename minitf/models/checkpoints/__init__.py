"""Checkpoints of other libraries: folders with ``config.json`` and ``*.safetensors``, read and written.

    model = load_pretrained("path/to/folder")           # in eval mode, in the configured dtype
    save_pretrained(model, "path/to/another")           # what Transformers' from_pretrained loads

Nothing is downloaded and no code is executed: a folder holds numbers and names, and both are checked.
"""

from minitf.models.checkpoints.auto import AutoModel, load_pretrained, save_pretrained
from minitf.models.checkpoints.configuration import CheckpointError, Configuration
from minitf.models.checkpoints.files import read_folder, read_safetensors, write_folder, write_safetensors

__all__ = [
    "AutoModel",
    "CheckpointError",
    "Configuration",
    "load_pretrained",
    "read_folder",
    "read_safetensors",
    "save_pretrained",
    "write_folder",
    "write_safetensors",
]
