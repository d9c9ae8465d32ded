"""How much of the machine a submission may use."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """The limits of one grading; ``[limits]`` in ``exercise.toml`` changes single ones.

    seconds: wall time of one call (also of importing the submission).
    total_seconds: wall time of everything the submission does in one grading.
    cpu_seconds: CPU time of one student process.
    memory_mib: address space of a student process, Python and NumPy (about 150 MiB) included.
    file_mib: size of any file it writes, and of what it prints.
    reply_mib: size of what one call returns.
    processes: further processes and threads that it may start. Not in force for root.
    """

    seconds: int = 10
    total_seconds: int = 60
    cpu_seconds: int = 60
    memory_mib: int = 2048
    file_mib: int = 1
    reply_mib: int = 64
    processes: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or value < (field.name != "processes"):
                raise ValueError(f"limits: {field.name} must be a positive integer, got {value!r}")

    def resources(self) -> dict[str, int]:
        """What the operating system is asked to enforce, by the names of ``setrlimit``."""
        return {
            "CORE": 0,
            "CPU": self.cpu_seconds,
            "FSIZE": self.file_mib * MIB,
            "NOFILE": 64,
            "NPROC": self.processes,
            "AS": self.memory_mib * MIB,
        }

    def as_dict(self) -> dict[str, int]:
        return asdict(self)
