"""The conformance suite: what is right passes, what is wrong is found, and what it shows can be pasted."""

import io
import json
from contextlib import redirect_stdout
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, strategies as st
from mutants import EQUIVALENT, TEXTBOOK, mutants, page
from test_project import METADATA, ROOT
from textbook import Careful, OnPaper, dot, others

import tinygrad_wn as tg
from tinygrad_wn.errors import ValueRangeError
from tinygrad_wn.testing import Implementation, LibraryMissingError, adapter, check_weight_norm, conformance
from tinygrad_wn.testing.conformance import draws
from tinygrad_wn.testing.conformance.adapters import INSTALL, Ours, implementation
from tinygrad_wn.testing.conformance.judge import judge
from tinygrad_wn.testing.conformance.oracle import DIGITS, Slices, exact
from tinygrad_wn.testing.conformance.properties import PROPERTIES

pytestmark = pytest.mark.once

FUNCTIONS = ("weight", "gradient", "second", "jvp", "fold", "copy", "state")
LAYERS = {"fold", "copy", "state"}
"""Properties of layers."""
ON_PAPER = {"scale", "zero slice", "near-parallel"}
"""What the formulas break on as they stand on paper."""


def column(impl, **options):
    matrix = check_weight_norm(impl, **options)
    found = {name: matrix[impl.name, name].status for name in matrix.properties}
    return matrix, {status: {name for name, one in found.items() if one == status} for status in found.values()}


def textbook(**changes):
    """The careful textbook implementation with some functions exchanged."""
    functions = {name: getattr(Careful, name) for name in FUNCTIONS} | changes
    return Implementation("textbook", **functions)


def test_this_package_is_right_in_everything():
    _, found = column(adapter("ours"))
    assert found == {"right": set(PROPERTIES)}


def test_its_definitions_without_kernels_are_right_in_everything():
    with tg.kernels(False):
        _, found = column(adapter("ours"), examples=20)
    assert found == {"right": set(PROPERTIES)}


def test_its_composed_form_is_right_in_everything_but_has_no_layers_of_its_own():
    properties = [name for name in PROPERTIES if name not in LAYERS]
    _, found = column(implementation("composed", Ours(fused=False), ""), examples=20, properties=properties)
    assert found == {"right": set(properties)}


def test_a_careful_textbook_implementation_is_right_in_everything():
    _, found = column(textbook(), examples=50)
    assert found == {"right": set(PROPERTIES)}


def test_the_formulas_as_they_stand_on_paper_break_where_they_must_and_nowhere_else():
    _, found = column(implementation("paper", OnPaper, ""), examples=50)
    assert found == {"right": set(PROPERTIES) - ON_PAPER - LAYERS, "wrong": ON_PAPER, "lacking": LAYERS}


def test_what_a_failing_example_says_is_found_when_it_is_pasted():
    impl = implementation("paper", OnPaper, "")
    matrix, _ = column(impl, properties=sorted(ON_PAPER), examples=50)
    failures = [failure for name in ON_PAPER for failure in matrix["paper", name].failures]
    assert len(failures) >= 5
    for failure in failures:
        code = failure.code.replace(impl.setup, "")
        with redirect_stdout(io.StringIO()) as printed, np.errstate(all="ignore"):
            exec(code, {"wn": impl})
        found, right = code.splitlines()[-2:]
        assert "# right" in right
        numbers = [
            eval(text, {"nan": np.nan, "inf": np.inf}) for text in (printed.getvalue(), found.split(maxsplit=2)[2])
        ]
        np.testing.assert_array_equal(*(np.array(x, np.float32) for x in numbers))


def test_examples_shrink_to_what_can_be_read():
    matrix, _ = column(implementation("paper", OnPaper, ""), properties=["scale"])
    large = matrix["paper", "scale"].failures[0].code
    assert 'v = np.ldexp(np.array([[1.0, 2.0]], "float32"), 63)' in large  # 4 · 2¹²⁶ leaves the range
    assert 'g = np.array([[1.0]], "float32")\nw = wn.weight(v, g, axis=0)' in large


def test_the_same_is_found_in_every_run():
    first, second = (str(column(implementation("paper", OnPaper, ""), examples=20)[0]) for _ in range(2))
    assert first == second


# Mistakes, each with the properties that it breaks


def norm(v, axis):
    return np.sqrt(dot(v, v, others(v, axis)))


def equation_4(v, g, ct, axis):
    w = OnPaper.weight(v, g, axis)
    rest = others(v, axis)
    return g / norm(v, axis) * (ct - w * dot(w, ct, rest) / dot(w, w, rest)), dot(ct, v, rest) / norm(v, axis)


def constant_norm(v, g, ct, a, b, axis):
    """What autograd gives for a backward that keeps the norm of the forward as a number."""
    _, by_g, by_ct = Careful.second(v, g, ct, a, b, axis)
    n, rest = norm(v, axis), others(v, axis)
    by_v = -g / n**3 * (dot(ct, v, rest) * a + dot(a, v, rest) * ct) + b * ct / n
    return by_v.astype(v.dtype), by_g, by_ct


def writes(v, g, axis):
    w = Careful.weight(v, g, axis)
    v *= 2
    return w


def in_memory_order(v, g, axis):
    return Careful.weight(v.ravel(order="K").reshape(v.shape), g, axis)


def whole_for_minus_one(v, g, axis):
    w = Careful.weight(v, np.ones_like(g, shape=(1,) * g.ndim), None) if axis == -1 else None
    return Careful.weight(v, g, axis) if w is None else g * w


class Unsteady:
    calls = 0

    def __call__(self, v, g, axis):
        self.calls += 1
        return Careful.weight(v, g, axis) * v.dtype.type(self.calls % 3)


def unprojected(v, g, ct, axis):
    return g / norm(v, axis) * ct, Careful.gradient(v, g, ct, axis)[1]


MISTAKES = {
    "no projection": ("gradient", unprojected, {"gradient", "orthogonality", "near-parallel", "scale"}),
    "equation 4 with w, where g is 0": ("gradient", equation_4, {"gradient"}),
    "a norm that stays constant": ("second", constant_norm, {"second order"}),
    "a small number added to the norm": (
        "weight",
        lambda v, g, axis: (g * (v / (norm(v.astype(float), axis) + 1e-12))).astype(v.dtype),
        {"scale"},
    ),
    "float32 inside": (
        "weight",
        lambda v, g, axis: OnPaper.weight(v.astype("f4"), g.astype("f4"), axis).astype(v.dtype),
        {"values"},
    ),
    "float64 for all": ("weight", lambda v, g, axis: Careful.weight(v.astype(float), g, axis), {"dtype kept"}),
    "an argument that is written into": ("weight", writes, {"values"}),
    "memory that is read as it lies": ("weight", in_memory_order, {"non-contiguous"}),
    "-1 for all axes": ("weight", whole_for_minus_one, {"axis meaning"}),
    "NaN for a zero slice": ("weight", OnPaper.weight, {"zero slice", "scale"}),
    "a tangent that is left out": ("jvp", lambda v, g, dv, dg, axis: Careful.jvp(v, g, dv, dg * 0, axis), {"jvp"}),
    "v instead of w": ("fold", lambda v, g, axis: v, {"fold"}),
    "a copy that shares": (
        "copy",
        lambda v, g, other_v, other_g, axis: (Careful.weight(other_v, other_g, axis),) * 2,
        {"copy"},
    ),
    "g that is not restored": (
        "state",
        lambda v, g, other_v, other_g, axis: (v, other_g, Careful.weight(v, other_g, axis)),
        {"state"},
    ),
    "one result too few": ("gradient", lambda v, g, ct, axis: Careful.gradient(v, g, ct, axis)[:1], {"gradient"}),
    "another shape": ("weight", lambda v, g, axis: Careful.weight(v, g, axis)[None], {"values"}),
    "integers": ("weight", lambda v, g, axis: Careful.weight(v, g, axis).astype(int), {"values"}),
    "an error": ("jvp", lambda v, g, dv, dg, axis: v[7:8, 99], {"jvp"}),
    "another result in every call": ("weight", Unsteady(), {"values"}),
}  # fmt: skip


@pytest.mark.parametrize(("function", "mistake", "broken"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_found_by_the_property_that_it_breaks(function, mistake, broken):
    matrix, found = column(textbook(**{function: mistake}), examples=30, properties=sorted(broken))
    assert found == {"wrong": broken}
    assert all(failure.what for name in broken for failure in matrix["textbook", name].failures)


def test_a_result_that_changes_from_call_to_call_is_named_so():
    matrix, _ = column(textbook(weight=Unsteady()), properties=["values"])
    assert matrix["textbook", "values"].failures[0].what.startswith(("not the same in every call", "w is off"))


FIRST = {
    "write": ["copy", "state"],
    "__init__": ["copy", "state"],
    "gradient": ["gradient", "near-parallel"],
    "second": ["second order"],
    **{name: [name] for name in ("jvp", "fold", "copy", "state")},
}
"""Properties to try first, for mutants of a function: those that would find it."""


def test_mutants_of_a_textbook_implementation_are_caught():
    survivors, tried = [], mutants(*TEXTBOOK)
    for mutant in tried:
        module = {}
        exec(mutant.source, module)
        impl = implementation("mutant", module["Careful"], "")
        first = FIRST.get(mutant.name.split(":")[0].split(".")[-1], [])
        names = [*first, *(name for name in PROPERTIES if name not in first)]
        if all(judge(impl, name, 20, shrink=False).status == "right" for name in names):
            survivors.append(mutant.name)
    assert len(tried) >= 40
    assert len(survivors) <= 0.05 * len(tried), survivors
    assert set(survivors) == set(EQUIVALENT)


def test_the_page_of_mutants_lists_what_is_tried():
    assert (ROOT / "docs" / "mutants.md").read_text(encoding="utf-8") == page()


# The right results


def trial(data):
    return data.draw(draws.trials("v", "g", "ct", "a", "b", "dv", "dg")(textbook()))


def differences(f, x, along):
    """The derivative of f at x along a direction, to 30 digits, from decimals of 60."""
    h = Decimal(10) ** -16
    return (f(x + h * along) - f(x - h * along)) / (2 * h)


@given(st.data())
def test_the_formulas_are_the_derivatives_of_equation_2(data):
    t = trial(data)
    v, g, ct, a, b, dv, dg = (exact(t[name]) for name in ("v", "g", "ct", "a", "b", "dv", "dg"))
    slices = t.truth()
    with localcontext(DIGITS):

        def w(x):
            return Slices(x[0], x[1], t.axis).weight().value

        def first(x):
            grad_v, grad_g = Slices(x[0], x[1], t.axis).gradient(x[2])
            return np.sum(grad_v.value * a) + np.sum(grad_g.value * b)

        def pair(*arrays):
            whole = np.empty(len(arrays), object)
            whole[:] = arrays
            return whole

        pushed = differences(w, pair(v, g), pair(dv, dg))
        assert np.max(abs(pushed - slices.jvp(t["dv"], t["dg"]).value)) < Decimal("1e-20")
        grad_v, grad_g = slices.gradient(t["ct"])
        assert abs(np.sum(ct * pushed) - np.sum(grad_v.value * dv) - np.sum(grad_g.value * dg)) < Decimal("1e-20")
        by_v, by_g, by_ct = slices.second(t["ct"], t["a"], t["b"])
        slope = differences(first, pair(v, g, ct), pair(dv, dg, a))
        total = np.sum(by_v.value * dv) + np.sum(by_g.value * dg) + np.sum(by_ct.value * a)
        assert abs(slope - total) < Decimal("1e-18")
        for truth in (slices.weight(), grad_v, grad_g, by_v, by_g, by_ct, slices.jvp(t["dv"], t["dg"])):
            assert np.all(abs(truth.value) <= truth.magnitude * (1 + Decimal("1e-50")))


def test_a_bound_lets_the_last_bits_differ_and_nothing_more():
    v, g = np.array([[3.0, 4.0]]), np.array([[5.0]])
    truth = Slices(v, g, 0).weight()
    assert not truth.misses(np.array([[3.0, 4.0]]) * (1 + 4e-16))
    assert truth.misses(np.array([[3.0, 4.0]]) * (1 + 4e-15))
    assert not truth.misses(np.array([[3.0, 4.0]], "f4") * np.float32(1 + 2e-7))
    assert truth.misses(np.array([[3.0, np.nan]]))


# What is lacking, and what is refused


def test_what_is_not_there_is_lacking_and_not_wrong():
    def unknown(*arrays, axis):
        raise NotImplementedError("no forward mode\nin this version")

    impl = Implementation("small", Careful.weight, jvp=unknown)
    matrix, found = column(impl, examples=5)
    values = {"values", "scale", "zero slice", "axis meaning", "dtype kept", "non-contiguous"}
    assert found == {"right": values, "lacking": set(PROPERTIES) - values}
    assert matrix["small", "jvp"].reason == "no forward mode"
    assert matrix["small", "fold"].reason == "there is no function fold"
    assert "small, jvp: lacking, no forward mode" in str(matrix)
    assert matrix.passed


def test_an_implementation_for_one_axis_and_one_dtype_is_judged_by_those():
    def only(axis, dtype):
        def weight(v, g, axis_given=None, **named):
            assert named["axis"] == axis
            assert v.dtype == dtype
            return Careful.weight(v, g, axis)

        return weight

    for axis in (0, 1, -1, None):
        impl = Implementation("one", only(axis, "float64"), Careful.gradient, dtypes=("float64",), axes=(axis,))
        matrix, found = column(impl, examples=5, properties=["values", "near-parallel", "axis meaning"])
        lacking = {"near-parallel", "values"} if axis == -1 else {"near-parallel"}
        assert found["lacking"] == lacking
        assert "float32" in matrix["one", "near-parallel"].reason
    wide = Implementation("wide", Careful.weight, Careful.gradient, axes=(1,))
    assert column(wide, examples=5, properties=["near-parallel"])[1] == {"right": {"near-parallel"}}


def test_an_axis_that_is_refused_is_not_wrong():
    def weight(v, g, axis):
        if axis is not None and axis < 0:
            raise IndexError("axis must not be negative")
        return Careful.weight(v, g, axis)

    assert column(textbook(weight=weight), properties=["axis meaning"])[1] == {"right": {"axis meaning"}}


def test_names_that_are_not_there_are_refused():
    impl = textbook()
    with pytest.raises(ValueRangeError, match="no such property"):
        check_weight_norm(impl, properties=["speed"])
    with pytest.raises(ValueRangeError, match="different names"):
        check_weight_norm(impl, impl)
    with pytest.raises(ValueRangeError, match="at least one"):
        check_weight_norm()
    with pytest.raises(ValueRangeError, match="examples"):
        check_weight_norm(impl, examples=0)
    with pytest.raises(ValueRangeError, match="one of ours, torch, equinox, jax"):
        adapter("theirs")


def test_a_library_that_is_not_installed_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(conformance.adapters, "find_spec", lambda name: None)
    with pytest.raises(LibraryMissingError, match=r"pip install 'torch==2\.13\.0'"):
        adapter("torch")
    monkeypatch.setattr(conformance, "find_spec", lambda name: None)
    with pytest.raises(LibraryMissingError, match=r"pip install 'tinygrad_wn\[test\]'"):
        check_weight_norm(textbook())


def test_the_extra_for_peers_brings_what_the_adapters_ask_for():
    assert set(INSTALL.values()) < set(METADATA["project"]["optional-dependencies"]["peers"])


def test_a_matrix_is_what_json_can_hold():
    matrix, _ = column(
        implementation("paper", OnPaper, "1.0"), properties=["values", "zero slice", "fold"], examples=20
    )
    found = json.loads(json.dumps(matrix.as_json(), allow_nan=False))
    assert found["versions"]["paper"] == "1.0"
    assert {"numpy", "hypothesis", "python"} <= found["versions"].keys()
    statuses = {name: one["status"] for name, one in found["verdicts"]["paper"].items()}
    assert statuses == {"values": "right", "zero slice": "wrong", "fold": "lacking"}
    assert found["verdicts"]["paper"]["zero slice"]["failures"][0]["code"].startswith("import numpy as np\n")
