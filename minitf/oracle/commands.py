"""``minitf oracle``: what the oracle knows, one of its cases in detail, and cases as files."""

from __future__ import annotations

import argparse


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds ``oracle list``, ``oracle show`` and ``oracle export`` to the command line."""
    parser = subparsers.add_parser("oracle", help="test vectors: what there is, and cases as files")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    listing = actions.add_parser("list", help="the names that the oracle knows")
    listing.add_argument("pattern", nargs="?", default="*", metavar="PATTERN", help="such as 'attention.*'")
    listing.set_defaults(run=_list)

    show = actions.add_parser("show", help="the arguments, options and shapes of one name")
    show.add_argument("name", metavar="NAME")
    show.set_defaults(run=_show)

    export = actions.add_parser("export", help="write cases with answers and tolerances")
    export.add_argument("names", nargs="+", metavar="NAME", help="a name or a pattern")
    export.add_argument("--format", default="npz", help="safetensors, npz (default) or json")
    export.add_argument("--dtype", default="float32", help="of the implementation to be tested (default float32)")
    export.add_argument("--size", default="tiny", help="tiny (default), small or medium")
    export.add_argument("--seed", type=int, default=0, help="default 0")
    export.add_argument("-o", "--output", default=".", metavar="DIR", help="default: here")
    export.set_defaults(run=_export)


def _list(arguments: argparse.Namespace) -> int:
    from minitf.oracle import references

    found = references.names(arguments.pattern)
    if not found:
        raise references.UnknownName(f"no name matches {arguments.pattern!r}; `minitf oracle list` shows all")
    print("\n".join(found))
    return 0


def _show(arguments: argparse.Namespace) -> int:
    import inspect

    from minitf.oracle import answers, references

    reference = references.find(arguments.name)
    function = reference.function
    example = answers.case(arguments.name, size="small")
    documentation = inspect.getdoc(function) or ""
    print(f"{arguments.name}: {function.__module__}.{function.__name__}\n")
    print(f"{documentation}\n\na small case:")
    for name, value in example.inputs.items():
        gradient = ", has a gradient" if name in reference.differentiable else ""
        print(f"  {name:<12}{value.dtype} {value.shape}{gradient}")
    for name, value in example.outputs.items():
        decision = ", a decision: judged by the scores it was made by" if name in reference.decisions else ""
        print(f"  {name:<12}{value.dtype} {value.shape}, returned{decision}")
    print(f"\noption combinations: {'; '.join(answers.labels(arguments.name))}")
    if reference.on_request:
        print(f"on request:          {'; '.join(map(answers.label_of, reference.on_request))}")
    if reference.auxiliary:
        print(f"beside the outputs:  {', '.join(reference.auxiliary)}")
    if reference.axes:
        print(f"axes:                {', '.join(f'{name} {axes}' for name, axes in reference.axes.items())}")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from minitf.oracle.vectors import export

    chosen = {name: getattr(arguments, name) for name in ("format", "dtype", "size", "seed")}
    for path in export(arguments.names, arguments.output, **chosen):
        print(path)
    return 0
