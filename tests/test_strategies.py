"""Drawn calls keep what `calls` promises about shapes, values, dtypes and layouts."""

import re
from typing import Annotated, Any

import numpy as np
import pytest
from every_op import every_op, floats
from hypothesis import find, given, strategies as st

import tinygrad_wn as tg
from tinygrad_wn.domains import Domain
from tinygrad_wn.op import Op, case
from tinygrad_wn.shapes import broadcast
from tinygrad_wn.testing.strategies import calls, layouts

pytestmark = pytest.mark.once

DOMAINS = [
    Domain(),
    Domain(low=0.0),
    Domain(low=-1.0, high=2.0),
    Domain(high=-1.0),
    Domain(low=100.0),
    Domain(away=True),
    Domain(low=-1.0, away=True),
    Domain(distinct=True),
    Domain(low=0.0, distinct=True),
    Domain(away=True, distinct=True),
]
every_domain = pytest.mark.parametrize("domain", DOMAINS, ids=repr)


def declared(domain: Domain) -> Op[...]:
    """An op of two inputs of a domain; not in the registry."""

    def special(a: Any, b: Any) -> Any:
        return np.concatenate([np.ravel(a), np.ravel(b)])

    special.__annotations__ = dict.fromkeys("ab", Annotated[Any, domain])
    return Op(special, cases=[case("(m,n),(4,4,5)")], shape=broadcast, kernel=None, gradient=False, elementwise=False)


@every_domain
@given(data=st.data())
def test_floats_keep_a_margin_to_the_bounds_of_their_domain(domain: Domain, data: st.DataObject) -> None:
    dtype = data.draw(floats)
    arrays, _ = data.draw(calls(declared(domain), dtype))
    for x in arrays:
        assert x.dtype == dtype
        assert np.all((x >= domain.low + 0.1) & (x <= domain.high - 0.1))
        assert not domain.away or np.all(np.abs(x) >= 0.1)
        assert np.all((x == 0) | (np.abs(x) > 1e-4))
        if domain.low < 100:
            assert np.all(np.abs(x) <= 10.2)
    if domain.distinct:
        every = np.sort(np.concatenate([x.ravel() for x in arrays]))
        assert np.all(np.diff(every) >= 0.05)


@every_domain
@given(data=st.data())
def test_integers_keep_inside_of_their_domain(domain: Domain, data: st.DataObject) -> None:
    arrays, _ = data.draw(calls(declared(domain), np.int64))
    for x in arrays:
        assert x.dtype == np.int64
        assert np.all((x > domain.low) & (x < domain.high))
        assert not domain.away or np.all(x != 0)
    if domain.distinct:
        every = np.concatenate([x.ravel() for x in arrays])
        assert len(set(every.tolist())) == every.size


@every_op
@given(data=st.data())
def test_sizes_follow_a_case_and_stay_small(op: Op[...], data: st.DataObject) -> None:
    empty = data.draw(st.booleans())
    arrays, params = data.draw(calls(op, empty=empty))
    sizes = [n for x in arrays if x is not None for n in x.shape]
    assert params in [c.params for c in op.cases]
    assert len(arrays) >= len(op.input_names) - op.variadic
    if not empty:
        fixed = {int(n) for c in op.cases for n in re.findall(r"[(,](\d+)", c.shapes)}
        assert all(1 <= n <= 4 or n in fixed for n in sizes)
    elif any(re.search("[a-z]", c.shapes) for c in op.cases):
        assert 0 in sizes


@given(calls(tg.cross_entropy))
def test_integers_stay_below_the_size_that_the_case_names(call: Any) -> None:
    (logits, target, weight), _ = call
    assert target.dtype == np.int64
    assert np.all((target >= 0) & (target < logits.shape[-1]))
    assert weight is None or weight.shape == logits.shape[-1:]


@pytest.mark.parametrize("kind", [np.bool_, np.int32, np.int64])
def test_bits_are_booleans_or_integers_up_to_seven(kind: Any) -> None:
    (a, b), _ = find(calls(tg.bitwise_and), lambda call: call[0][0].dtype == kind and call[0][0].any())
    assert a.dtype == b.dtype == kind
    assert max(a.max(), b.max()) <= 7


LAYOUTS = {
    "C": lambda x: x.flags.c_contiguous and x.base is None,
    "Fortran": lambda x: x.flags.f_contiguous and not x.flags.c_contiguous,
    "gaps": lambda x: x.strides == (96, 16),
    "reversed": lambda x: min(x.strides) < 0,
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_is_drawn_and_holds_the_same_values(layout: Any) -> None:
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(find(layouts(x), layout), x)
