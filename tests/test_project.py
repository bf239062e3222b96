"""What the project says of itself: README, pages, versions, docstrings, sizes of files."""

import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import tinygrad_wn as tg
from tinygrad_wn import testing

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
CODE = sorted(path for folder in ("tinygrad_wn", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
METADATA = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
INSTALL = re.compile(r"\.venv/bin/python -m pip install -q (-e )?'\.\[\w+\]'")


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def identity(path):
    return str(path.relative_to(ROOT))


def public_names():
    """Every public function and class by its full name; an exception is shown by what raises it."""
    stack, seen = [tg, testing], set()
    while stack:
        module = stack.pop()
        seen.add(module)
        for name in getattr(module, "__all__", [n for n in vars(module) if not n.startswith("_")]):
            found = getattr(module, name)
            if isinstance(found, ModuleType):
                stack += [found] if found.__name__.startswith("tinygrad_wn.") and found not in seen else []
            elif is_ours(found, module) and not (inspect.isclass(found) and issubclass(found, Exception)):
                yield f"{module.__name__}.{name}", found


def is_ours(found, module):
    if not callable(found):
        return False
    home = getattr(found, "__module__", "")
    return home.startswith("tinygrad_wn") if hasattr(module, "__all__") else home == module.__name__


PUBLIC = dict(public_names())


def test_the_readme_has_two_bash_blocks_that_stand_alone():
    found = blocks(README, "bash")
    assert len(found) == README.count("```bash") == 2
    for block in found:
        first, install, *rest = block.splitlines()
        assert first == "python3 -m venv .venv"
        assert INSTALL.fullmatch(install)
        assert rest
        assert all(line.startswith(".venv/bin/python -m ") for line in rest)
        assert subprocess.run(["bash", "-n"], input=block, text=True, check=False).returncode == 0


def test_the_extras_that_the_readme_installs_exist():
    wanted = re.findall(r"pip install .*\[(\w+)\]", README)
    assert wanted == ["plots", "test", "docs"]
    assert set(wanted) <= METADATA["project"]["optional-dependencies"].keys()


@pytest.mark.parametrize("number", [1, 2])
def test_ci_reads_the_blocks_of_the_readme(number):
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    function = re.search(r"^block\(\) \{.*?^\}", script, re.MULTILINE | re.DOTALL)
    assert function
    command = ["bash", "-euo", "pipefail", "-c", f"{function[0]}\nblock {number}"]
    read = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert read == blocks(README, "bash")[number - 1]
    assert len(re.findall(rf'^ *stage .* -c "\$\(block {number}\)"$', script, re.MULTILINE)) == 1


def test_the_readme_says_whose_project_this_is_not():
    assert "Not affiliated with the project tinygrad." in README


def test_the_version_is_the_same_everywhere():
    version = METADATA["project"]["version"]
    assert tg.__version__ == version
    assert re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[0] == version


def test_there_are_public_names():
    assert {"tinygrad_wn.weight_norm", "tinygrad_wn.linalg.vector_norm", "tinygrad_wn.nn.Linear"} <= PUBLIC.keys()


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_a_docstring_with_an_example(name):
    assert ">>> " in (PUBLIC[name].__doc__ or "")


def test_each_public_function_and_class_is_on_one_page_of_the_reference():
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "reference").glob("*.md"))
    shown = [
        getattr(importlib.import_module(module), name)
        for module, names in re.findall(r"^```\{public\} (\S+)\n(.*?)^```$", pages, re.MULTILINE | re.DOTALL)
        for name in names.split()
    ]
    assert len(shown) == len({id(one) for one in shown})
    assert [name for name, one in PUBLIC.items() if not any(one is other for other in shown)] == []


@pytest.mark.parametrize("path", CODE, ids=identity)
def test_a_file_fits_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", PAGES, ids=identity)
def test_links_of_a_page_lead_somewhere(path):
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        file, _, anchor = target.partition("#")
        goal = path.parent / file if file else path
        assert goal.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", goal.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("path", PAGES, ids=identity)
def test_tests_that_a_page_names_exist(path):
    there = {name for file in (ROOT / "tests").glob("*.py") for name in re.findall(r"def (test_\w+)", file.read_text())}
    assert set(re.findall(r"`(test_\w+)`", path.read_text(encoding="utf-8"))) <= there


def test_the_package_imports_nothing_that_only_tests_or_plots_need():
    script = "import sys, tinygrad_wn; print([m for m in ('hypothesis', 'pytest', 'matplotlib') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
