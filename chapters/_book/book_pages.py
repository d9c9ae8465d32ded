"""The book's Sphinx extension: mathematics without a network, and citations that show a paper's slug."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pybtex.plugin import register_plugin
from pybtex.style.formatting.unsrt import Style
from pybtex.style.labels import BaseLabelStyle
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.fileutil import copy_asset_file

#: MathJax in one file: it draws glyphs as SVG, so it needs no fonts, and it has all of its TeX packages inside
MATHJAX = "tex-svg-full.js"


class SlugLabels(BaseLabelStyle):
    def format_labels(self, sorted_entries: list[Any]) -> list[str]:
        return [entry.key for entry in sorted_entries]


class SlugStyle(Style):
    default_label_style = SlugLabels


def use_bundled_mathjax(app: Sphinx, config: Config) -> None:
    config.mathjax_path = MATHJAX


def copy_mathjax(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        package = find_spec("sphinx-mathjax-offline")
        if package is None or package.origin is None:
            raise ModuleNotFoundError("the book needs the package sphinx-mathjax-offline, which `make book` installs")
        copy_asset_file(Path(package.origin).parent / "static/mathjax" / MATHJAX, Path(app.outdir, "_static"))


def setup(app: Sphinx) -> dict[str, Any]:
    register_plugin("pybtex.style.formatting", "slug", SlugStyle)
    app.connect("config-inited", use_bundled_mathjax)
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
