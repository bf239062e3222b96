"""docs/weight-norm.md: pictures show what the package computes now, equations lead to code, the figure stands alone."""

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from docs import pictures

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "weight-norm.md").read_text(encoding="utf-8")


def described(name: str) -> Any:
    """The numbers that a picture holds as its description."""
    text = (pictures.FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    found = re.search(r"<dc:description>(.*?)</dc:description>", text, re.DOTALL)
    assert found
    return json.loads(unescape(found[1]))


def compare(found: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, one in expected.items():
            compare(found[name], one)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_a_picture_holds_the_numbers_that_are_computed_now(name: str) -> None:
    _, numbers = pictures.PICTURES[name]()
    compare(described(name), pictures.plain(numbers))


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_a_picture_is_on_the_page_and_said_in_words(name: str) -> None:
    found = re.search(rf"!\[([^\]]+)\]\(_static/{name}\.svg\)", PAGE)
    assert found
    assert len(found[1]) > 40


def test_a_step_is_that_of_equations_3_and_4() -> None:
    v, g, rate = np.array([0.6, -1.7]), 1.3, 0.4
    found = pictures.one_step(v, g, rate)
    u = v / np.linalg.norm(v)
    off = g * u - pictures.BEST
    along = pictures.BEST / np.linalg.norm(pictures.BEST)
    slope = pictures.STEEP * off + (pictures.FLAT - pictures.STEEP) * (off @ along) * along
    np.testing.assert_allclose(found["∇w"], slope, rtol=1e-13)
    np.testing.assert_allclose(found["∇v"], g / np.linalg.norm(v) * (np.eye(2) - np.outer(u, u)) @ slope, rtol=1e-13)
    np.testing.assert_allclose(found["g'"], g - rate * slope @ u, rtol=1e-13)


def test_the_figure_needs_nothing_but_itself() -> None:
    text = (pictures.FOLDER / "weight-norm.html").read_text(encoding="utf-8")
    assert not re.search(r"\b(?:src|href|url|import|fetch|XMLHttpRequest|WebSocket)\b\s*[=(:]", text)
    assert "//" not in re.sub(r"^\s*//.*$|  // .*$", "", text, flags=re.MULTILINE)


def test_the_page_holds_the_figure_and_a_link_to_it() -> None:
    assert re.search(r'<object data="_static/weight-norm.html" type="text/html"[^>]*aria-label="[^"]+"', PAGE)
    assert '<a href="_static/weight-norm.html">' in PAGE


def test_each_equation_of_the_paper_leads_to_its_function_and_to_a_test_that_is_there() -> None:
    listed = PAGE.partition("## The equations, and the tests that hold them")[2].split("\n- ")[1:]
    numbered = [one for one in listed if one.startswith("**(")]
    assert re.findall(r"\*\*\((\d)\)\*\*", "".join(numbered)) == list("12345678")
    for one in listed:
        assert one.count("\n  - ") >= 1 + one.count("\n  - held by ") >= 2
        for name, file in re.findall(r"\[`([\w.]+)`\]\(\.\./([\w/]+\.py)\)", one):
            text = (ROOT / file).read_text(encoding="utf-8")
            assert re.search(rf"^def {name.removeprefix('tg.')}\(", text, re.MULTILINE), name
