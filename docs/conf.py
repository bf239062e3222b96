"""How Sphinx makes the site of these pages: `python -m sphinx -W --keep-going docs site`."""

import contextlib
import inspect
import io
import os
import re
from importlib import import_module

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from tinygrad_wn import cli
from tinygrad_wn.op import Op

project = html_title = "tinygrad_wn"
author = copyright = "The tinygrad_wn authors"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_copybutton"]

exclude_patterns = ["notebook/source.md"]  # of which both notebooks are made
nitpicky = True  # a name that leads nowhere is a warning, and CI takes warnings for errors
WITHOUT_A_PAGE = (
    "Real|Positive|AboveMinusOne|NonZero|Distinct|Integer|Boolean|Bits|Array|Axis|Shape|Argnums|Function|Random|Work|Graph",
    r"(os|pathlib|collections|numpy|np|hypothesis)\..*",
    r".*\.step\.Step|.*\.Watcher|(.*\.)?[A-Z]",
)
nitpick_ignore_regex = [("py:.*", "|".join(WITHOUT_A_PAGE))]
default_role = "literal"  # docstrings write code between single backticks
smartquotes = False

myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
python_use_unqualified_type_names = True

html_theme = "furo"
html_static_path, html_css_files = ["_static"], ["site.css"]
html_copy_source = html_show_sourcelink = html_show_sphinx = False
copybutton_prompt_text, copybutton_prompt_is_regexp = r">>> |\.\.\. |\$ ", True


os.environ["COLUMNS"] = "88"  # the width of what --help prints


class Public(SphinxDirective):
    """Names of a module, such as `{public} tinygrad_wn.nn`, as what their docstrings say."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        module = import_module(self.arguments[0])
        text = [f".. currentmodule:: {module.__name__}"]
        for name in " ".join(self.content).split():
            kind = "class" if inspect.isclass(getattr(module, name)) else "function"
            text.append(f".. auto{kind}:: {name}")
        return self.parse_text_to_nodes("\n".join(["```{eval-rst}", *text, "```"]))


class Help(SphinxDirective):
    """What `tinygrad-wn`, or a command of it such as `{help} train`, prints with --help."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            cli.main([*self.arguments, "--help"])
        text = printed.getvalue()
        return [nodes.literal_block(text, text, language="text")]


def with_results(_app: Sphinx, _what: str, _name: str, found: object, _options: object, given: str, result: str):
    """The definition of an op is about arrays; who calls it gets tensors."""
    return (given, result.replace("Array", "Tensor")) if isinstance(found, Op) and result else None


def as_text(_app: Sphinx, _what: str, _name: str, _found: object, _options: object, lines: list[str]) -> None:
    """Docstrings are plain text: |v|, *xs and s_ mean nothing else outside of backticks and examples."""
    example = False
    for i, line in enumerate(lines):
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if not example:
            parts = re.split(r"(`[^`]*`)", line)
            lines[i] = "".join(part if part.startswith("`") else re.sub(r"([|*_])", r"\\\1", part) for part in parts)


def as_written(_app: Sphinx, document: nodes.document) -> None:
    """Names as they are called: `tg.nn.Linear`. Examples without their last line, which is for doctest alone."""
    for name in document.findall(addnodes.desc_addname):
        short = re.sub(r"^tinygrad_wn\.(?=((nn|nn\.init|optim|data|interop|linalg)\.)?$)", "tg.", name.astext())
        name.clear()
        name.append(nodes.Text(short))
    for block in document.findall(nodes.literal_block):
        text = block.astext().rstrip()
        if block.rawsource.rstrip() == text:
            block.rawsource = text
            block.clear()
            block.append(nodes.Text(text))


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_directive("public", Public)
    app.add_directive("help", Help)
    app.connect("autodoc-process-signature", with_results)
    app.connect("autodoc-process-docstring", as_text)
    app.connect("doctree-read", as_written)
