"""The interactive figure of docs/weight-norm.md in a browser: its mathematics is the package's, and it obeys.

The page is opened from the disk, with the network switched off. Without Chromium, its driver or selenium, which
.ci/browser installs, these tests are deselected.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import tinygrad_wn as tg

ROOT = Path(__file__).parent.parent
FILE = ROOT / "docs" / "_static" / "weight-norm.html"
CURVATURES = {"toward": (0.25, 4.0), "bowl": (1.0, 1.0), "athwart": (4.0, 0.25)}
BEST = np.array([2.4, 1.2])
FLAGS = (
    "headless=new",
    "no-sandbox",
    "disable-gpu",
    "disable-quic",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
    "window-size=900,1000",
)
pytestmark = [pytest.mark.browser, pytest.mark.once]
numbers = st.floats(-3, 3, width=32)
vectors = st.tuples(numbers, numbers).filter(lambda x: np.hypot(*x) > 0.1)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = import_module("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    found = webdriver.Chrome(options, service)
    found.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    found.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    yield found
    found.quit()


@pytest.fixture
def page(driver: Any) -> Iterator[Any]:
    """The figure as it opens; a test fails if the console shows anything, or something was fetched."""
    driver.get(FILE.as_uri())
    yield driver
    assert driver.get_log("browser") == []
    assert driver.execute_script("return performance.getEntriesByType('resource').length") == 0


def now(page: Any) -> dict[str, Any]:
    """The state that is shown, with w."""
    return page.execute_script(
        "return {...now(), w: weight(now().v, now().g), rate, surface, steps: history.length - 1}"
    )


def press(page: Any, name: str) -> None:
    page.find_element("id", name).click()


def choose(page: Any, **values: Any) -> None:
    """Move sliders as a script moves them: set the value, and say so."""
    for name, value in values.items():
        script = "const x = find(arguments[0]); x.value = arguments[1]; x.dispatchEvent(new Event('input'))"
        page.execute_script(script, name, value)


def pick(page: Any, surface: str) -> None:
    page.find_element("css selector", f"#surface option[value={surface}]").click()


def loss_of(w: Any, surface: str) -> Any:
    """The loss of the figure, from primitive ops: the engine differentiates it."""
    flat, steep = CURVATURES[surface]
    along = BEST / np.linalg.norm(BEST)
    off = w - BEST
    return (flat * tg.square((off * along).sum()) + steep * tg.square(off[1] * along[0] - off[0] * along[1])) / 2


def by_the_package(v: Any, g: float, rate: float, surface: str) -> dict[str, Any]:
    """What the figure shows, by `tg.weight_norm` and the engine's gradients."""
    leaves = [tg.tensor(x, "float64", requires_grad=True) for x in (v, [g])]
    w = tg.weight_norm(*leaves, axis=None)
    loss = loss_of(w, surface)
    dv, dg = (x.numpy() for x in loss.gradient(*leaves))
    ct = tg.grad(lambda w: loss_of(w, surface))(w.detach()).numpy()
    new_v, new_g = np.asarray(v) - rate * dv, g - rate * dg[0]
    after = tg.weight_norm(new_v, np.array([new_g]), axis=None).numpy()
    return {
        "w": w.detach().numpy(),
        "loss": loss.item(),
        "slope": ct,
        "dv": dv,
        "dg": dg[0],
        "v after": new_v,
        "g after": new_g,
        "w after": after,
        "plain after": w.detach().numpy() - rate * ct,
        "effective": rate * g * g / np.sum(np.square(v)),
    }


BY_THE_FIGURE = """
const [v, g, rate, name] = arguments, s = surfaces[name], w = weight(v, g), ct = slope(s, w);
const { dv, dg } = gradients(v, g, ct), after = splitStep(s, v, g, rate);
return { w, loss: loss(s, w), slope: ct, dv, dg, "v after": after.v, "g after": after.g,
  "w after": weight(after.v, after.g), "plain after": plainStep(s, w, rate), effective: effectiveRate(v, g, rate) };
"""


@given(vectors, numbers, st.floats(0.01, 10), st.sampled_from(sorted(CURVATURES)))
def test_the_mathematics_of_the_figure_is_that_of_the_package(
    driver: Any, v: Any, g: float, rate: float, surface: str
) -> None:
    if driver.current_url != FILE.as_uri():
        driver.get(FILE.as_uri())
    found = driver.execute_script(BY_THE_FIGURE, v, g, rate, surface)
    expected = by_the_package(v, g, rate, surface)
    assert found.keys() == expected.keys()
    size = 100 * (1 + rate) * (1 + abs(g)) / min(1, np.hypot(*v))  # of what is added up; slopes stay below 100
    for name, one in expected.items():
        np.testing.assert_allclose(found[name], one, rtol=1e-12, atol=1e-14 * size**2, err_msg=name)


@pytest.mark.parametrize("surface", CURVATURES)
def test_many_steps_are_those_of_the_optimizer(page: Any, surface: str) -> None:
    pick(page, surface)
    start = now(page)
    press(page, "many")
    found = now(page)
    assert (found["surface"], found["steps"]) == (surface, 20)
    layer: Any = tg.nn.weight_norm(tg.nn.Linear(2, 1, bias=False, dtype="float64"))
    layer.weight.v.data, layer.weight.g.data = [start["v"]], [[start["g"]]]
    alone = tg.tensor(start["w"], "float64", requires_grad=True)
    optimizer = tg.optim.SGD([*layer.parameters(), alone], lr=start["rate"])
    for _ in range(20):
        optimizer.zero_grad()
        (loss_of(layer.weight().reshape(2), surface) + loss_of(alone, surface)).backward()
        optimizer.step()
    np.testing.assert_allclose(found["v"], layer.weight.v.numpy()[0], rtol=1e-9)
    np.testing.assert_allclose(found["g"], layer.weight.g.item(), rtol=1e-9)
    np.testing.assert_allclose(found["plain"], alone.detach().numpy(), rtol=1e-9)


# What the reader does


@contextmanager
def screen(page: Any, width: int, height: int) -> Iterator[None]:
    """A screen of this size; below 500, that of a phone."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    yield
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def drag(page: Any, name: str, x: float, y: float) -> None:
    """Drag a handle by the pointer to a point of the plane."""
    script = "const m = find('plane').getScreenCTM(); return [m.a * unit * arguments[0], -m.d * unit * arguments[1]]"
    tip = now(page)[name[-1]]
    dx, dy = page.execute_script(script, x - tip[0], y - tip[1])
    handle = page.find_element("id", name)
    chain = import_module("selenium.webdriver").ActionChains(page, duration=20)
    chain.click_and_hold(handle).move_by_offset(round(dx), round(dy)).release().perform()


@pytest.mark.parametrize("goal", [(-1.5, 2.0), (2.0, -2.5), (0.5, 0.5)])
def test_w_follows_v_that_is_dragged_and_keeps_its_length(page: Any, goal: tuple[float, float]) -> None:
    g = now(page)["g"]
    drag(page, "handle-v", *goal)
    found = now(page)
    np.testing.assert_allclose(found["v"], goal, atol=0.05)
    np.testing.assert_allclose(found["w"], g * np.array(found["v"]) / np.hypot(*found["v"]), rtol=1e-12)
    assert found["g"] == g
    assert page.find_element("id", "handle-v").get_attribute("aria-valuetext").startswith("v = (")


def test_g_follows_w_that_is_dragged_and_v_stays(page: Any) -> None:
    v = np.array(now(page)["v"])
    u = v / np.hypot(*v)
    drag(page, "handle-w", *(2.4 * u + 0.4 * np.array([-u[1], u[0]])))
    found = now(page)
    assert found["v"] == v.tolist()
    assert found["g"] == pytest.approx(2.4, abs=0.05)
    drag(page, "handle-w", *(-1.5 * u))
    assert now(page)["g"] == pytest.approx(-1.5, abs=0.05)


def test_a_finger_drags_as_a_mouse_does_and_the_page_stays(page: Any) -> None:
    with screen(page, 375, 500):
        script = "const r = find('handle-v').getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]"
        x, y = page.execute_script(script)
        before = now(page)["v"]
        moves = [("touchMove", [(x - 5 * i, y + 8 * i)]) for i in range(1, 11)]
        for kind, points in (("touchStart", [(x, y)]), *moves, ("touchEnd", [])):
            touches = [{"x": a, "y": b} for a, b in points]
            page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
        unit = page.execute_script("return find('plane').getScreenCTM().a * unit")
        np.testing.assert_allclose(now(page)["v"], np.add(before, [-50 / unit, -80 / unit]), atol=0.05)
        assert page.execute_script("return scrollY") == 0


def test_keys_move_v_and_g(page: Any) -> None:
    keys = import_module("selenium.webdriver").Keys
    before = now(page)
    page.find_element("id", "handle-v").send_keys(keys.ARROW_LEFT, keys.ARROW_UP, keys.ARROW_UP)
    page.find_element("id", "handle-w").send_keys(keys.ARROW_DOWN)
    after = now(page)
    np.testing.assert_allclose(after["v"], np.add(before["v"], [-0.1, 0.2]), rtol=1e-12)
    assert after["g"] == pytest.approx(before["g"] - 0.1)


def test_sliders_set_direction_length_g_and_step_size(page: Any) -> None:
    choose(page, angle=90, length=0.5, g=-1.25, rate=0.5)
    found = now(page)
    np.testing.assert_allclose(found["v"], [0, np.sqrt(10)], atol=1e-12)
    np.testing.assert_allclose(found["w"], [0, -1.25], atol=1e-12)
    assert found["rate"] == pytest.approx(np.sqrt(10))
    for name in ("angle", "length", "g", "rate"):
        slider = page.find_element("id", name)
        assert slider.accessible_name
        assert slider.get_attribute("aria-valuetext")


def test_a_step_lengthens_v_and_the_way_back_leads_to_where_it_began(page: Any) -> None:
    start = now(page)
    shown = page.find_element("css selector", "#numbers tbody").text
    expected = by_the_package(start["v"], start["g"], start["rate"], start["surface"])
    press(page, "step")
    found = now(page)
    np.testing.assert_allclose(found["v"], expected["v after"], rtol=1e-12)
    np.testing.assert_allclose(found["w"], expected["w after"], rtol=1e-12)
    np.testing.assert_allclose(found["plain"], expected["plain after"], rtol=1e-12)
    assert np.hypot(*found["v"]) > np.hypot(*start["v"])
    assert f"{expected['w after'][0]:.3f}, {expected['w after'][1]:.3f}" in shown
    assert page.find_element("id", "status").text.startswith("Step 1: ")
    press(page, "back-to-0")
    assert now(page) == start
    choose(page, angle=10, rate=0.1)
    press(page, "many")
    press(page, "reset")
    assert now(page) == start


def test_what_the_page_says_of_a_step_size_of_one_is_so(page: Any) -> None:
    choose(page, rate=0)
    lengths = []
    for _ in range(2):
        lengths.append(np.hypot(*now(page)["v"]))
        press(page, "many")
    found = now(page)
    assert "w alone has left the picture" in page.find_element("id", "status").text
    assert found["steps"] == 40
    assert lengths[0] + 1 < lengths[1] <= np.hypot(*found["v"]) < 20
    assert (found["g"] / np.hypot(*found["v"])) ** 2 < 2 / 4
    np.testing.assert_allclose(found["w"], BEST, atol=1e-3)
    pick(page, "athwart")
    before = now(page)
    press(page, "many")
    losses = [loss_of(tg.tensor(one["w"], "float64"), "athwart").item() for one in (before, now(page))]
    assert losses[1] > losses[0]


def test_a_step_size_that_is_too_large_is_said_and_does_no_harm(page: Any) -> None:
    choose(page, rate=1)
    for _ in range(3):
        press(page, "many")
    assert "g has left the picture" in page.find_element("id", "status").text
    assert "NaN" not in page.execute_script("return document.querySelector('main').outerHTML")
    press(page, "reset")
    assert now(page)["steps"] == 0
    choose(page, rate=0)
    page.execute_script("walk(1000)")
    assert "NaN" not in page.execute_script("return document.querySelector('main').outerHTML")
    assert np.all(np.isfinite(np.array(now(page)["plain"], float)))


@pytest.mark.parametrize("width", [320, 375, 900])
def test_nothing_is_wider_than_the_screen(page: Any, width: int) -> None:
    with screen(page, width, 800):
        for _ in range(2):
            assert page.execute_script("return document.documentElement.scrollWidth") <= width
            press(page, "many")


def test_every_colour_of_text_stands_out_in_light_and_dark(page: Any) -> None:
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        script = (
            "const s = getComputedStyle(find('plane')); return arguments[0].map((x) => s.getPropertyValue(x).trim())"
        )
        names = ["--paper", "--ink", "--soft", "--v", "--w", "--along", "--across", "--plain"]
        paper, *others = (luminance(x) for x in page.execute_script(script, names))
        contrasts = [(max(x, paper) + 0.05) / (min(x, paper) + 0.05) for x in others]
        assert min(contrasts) >= 4.5, json.dumps(dict(zip(names[1:], contrasts, strict=True)))
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def luminance(color: str) -> float:
    """The relative luminance of WCAG 2 of a color such as #a04 or #aa0044."""
    digits = color[1:] if len(color) == 7 else "".join(2 * x for x in color[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
