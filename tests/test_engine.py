"""The graph and the walk back: freeing, depth, repeated walks, overwritten arrays, threads, NumPy, messages."""

import asyncio
import copy
import gc
import pickle
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_wn as tg
from tinygrad_wn.errors import GradientError, TinygradWNError
from tinygrad_wn.op import OPS
from tinygrad_wn.ops.update import sgd_update


def leaf(values, dtype=None):
    return tg.tensor(values, dtype, requires_grad=True)


def training_step(v, g, b):
    logits = tg.linear(np.ones((5, 3), np.float32), tg.weight_norm(v, g), b).relu()
    loss = tg.cross_entropy(logits, np.array([0, 1, 2, 3, 0]))
    loss.backward()
    for p in (v, g, b):
        p.grad = None
    return loss


def test_a_training_step_leaves_no_garbage_for_the_collector():
    leaves = (
        tg.randn(4, 3, rng=0, requires_grad=True),
        tg.ones((4, 1), requires_grad=True),
        tg.zeros(4, requires_grad=True),
    )
    training_step(*leaves)
    gc.collect()
    gc.disable()
    try:
        loss = training_step(*leaves)
        node = weakref.ref(loss)
        del loss
        assert node() is None
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_second_derivative_leaves_no_garbage_for_the_collector():
    x = leaf([1.0, 2.0])
    gc.collect()
    gc.disable()
    try:
        (x**3).sum().gradient(x, create_graph=True)[0].sum().gradient(x)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_chain_of_100_000_ops_is_walked_and_freed():
    x = leaf(2.0)
    y = x
    for _ in range(100_000):
        y = y + x
    (slope,) = y.gradient(x)
    assert slope.item() == 100_001
    del y


def test_a_diamond_of_many_layers_is_walked_once_per_node():
    x = leaf(1.0, "float64")
    y = x
    for _ in range(60):  # 2**60 paths
        y = y * 0.5 + y * 0.5
    assert y.gradient(x)[0].item() == 1.0


def test_a_second_backward_adds_the_same_gradients_again():
    x = leaf([1.0, 2.0])
    y = (x.exp() * x).sum()
    y.backward()
    first = x.grad.numpy().copy()
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), 2 * first)


def test_gradient_gives_a_tuple_and_touches_no_grad():
    x, y, z = leaf([1.0, 2.0]), leaf([3.0, 4.0]), leaf([[5.0]])
    found = (x * y).sum().gradient(x, z)
    assert isinstance(found, tuple)
    np.testing.assert_array_equal(found[0].numpy(), y.numpy())
    np.testing.assert_array_equal(found[1].numpy(), [[0.0]])
    assert x.grad is None
    assert y.grad is None


def test_gradient_by_a_tensor_in_the_middle_of_the_graph():
    x = leaf([1.0, 2.0])
    middle = x * 3
    result = (middle * middle).sum()
    by_middle, by_x = result.gradient(middle, x)
    np.testing.assert_array_equal(by_middle.numpy(), [6.0, 12.0])
    np.testing.assert_array_equal(by_x.numpy(), [18.0, 36.0])


def test_gradient_of_a_tensor_by_itself_is_its_cotangent():
    x = leaf([1.0, 2.0])
    assert x.gradient(x, cotangent=[3.0, 4.0])[0].numpy().tolist() == [3.0, 4.0]
    x.backward([3.0, 4.0])
    assert x.grad.numpy().tolist() == [3.0, 4.0]


def test_branches_that_nobody_wants_are_not_computed(monkeypatch):
    x, frozen = leaf([1.0, 2.0]), tg.tensor([3.0, 4.0])
    monkeypatch.setattr(OPS["exp"], "pull", lambda *_: pytest.fail("the pull of exp was called"))
    ((frozen.exp() * x).sum()).backward()
    y = leaf([1.0, 2.0])
    (slope,) = (y.exp() * x).sum().gradient(x)
    np.testing.assert_allclose(slope.numpy(), np.exp([1.0, 2.0]), rtol=1e-6)


@given(st.data())
def test_cotangents_come_back_in_the_shape_and_dtype_of_their_input(data):
    shapes = data.draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3))
    a, b = (leaf(np.ones(shape), data.draw(st.sampled_from(["float32", "float64"]))) for shape in shapes.input_shapes)
    y = a * b
    assert y.shape == shapes.result_shape
    for x, ct in zip((a, b), y.gradient(a, b, cotangent=np.ones(y.shape)), strict=True):
        assert ct.shape == x.shape
        assert ct.dtype == x.dtype
        np.testing.assert_array_equal(ct.numpy(), y.size // max(x.size, 1))


def overwrite_by_data(p):
    p.data = p.numpy() + 1


def overwrite_by_augmented_assignment(p):
    p.data = p.data + 1


def overwrite_by_update_rule(p):
    sgd_update.into((p,), 1.0, p, np.ones_like(p.numpy()))


@pytest.mark.parametrize("overwrite", [overwrite_by_data, overwrite_by_augmented_assignment, overwrite_by_update_rule])
def test_overwriting_an_array_that_backward_needs_names_op_and_tensor(overwrite):
    p = leaf([1.0, 2.0])
    loss = p.sin().sum()
    overwrite(p)
    with pytest.raises(GradientError, match="sin: its input 'x' was overwritten") as caught:
        loss.backward()
    assert "float32 [2]" in str(caught.value)
    assert p.grad is None


def test_overwriting_through_a_view_is_seen_as_well():
    p = leaf([[1.0, 2.0]])
    for view in (p.detach(), p):
        loss = p.T[1:].square().sum()
        view.data = [[3.0, 4.0]]
        with pytest.raises(GradientError, match="square: its input 'x' was overwritten"):
            loss.backward()


def test_overwriting_a_result_that_backward_needs_is_seen():
    x = leaf([1.0, 2.0])
    y = x.exp()
    y.detach().data = [0.0, 0.0]
    with pytest.raises(GradientError, match="exp: its result was overwritten"):
        y.sum().backward()


def test_overwriting_an_array_that_backward_does_not_need_is_fine():
    p = leaf([1.0, 2.0])
    loss = (p + p).sum()
    p.data = [3.0, 4.0]
    loss.backward()
    assert p.grad.numpy().tolist() == [2.0, 2.0]


def test_a_caller_who_reuses_an_array_does_not_change_a_gradient():
    x, w = np.array([1.0, 2.0]), leaf([1.0, 1.0])
    loss = (w * x).sum()
    x[:] = 0
    loss.backward()
    assert w.grad.numpy().tolist() == [1.0, 2.0]


def test_a_number_past_the_range_becomes_infinite_without_a_warning():
    x = tg.tensor([1e300])
    assert x.numpy()[0] == np.inf
    x.data = np.array([-1e300])
    assert x.numpy()[0] == -np.inf


def test_tensor_copies_and_data_cannot_be_written_through():
    x = np.array([1.0, 2.0])
    t = tg.tensor(x)
    x[:] = 0
    assert t.numpy().tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="read-only"):
        t.numpy()[0] = 5
    with pytest.raises(ValueError, match="read-only"):
        t.data[0] = 5


def test_no_grad_holds_for_its_own_thread_only():
    x, seen = leaf(1.0), {}
    with tg.no_grad():
        worker = threading.Thread(target=lambda: seen.update(other=(x * x).requires_grad))
        worker.start()
        worker.join()
        seen["own"] = (x * x).requires_grad
    assert seen == {"other": True, "own": False}
    assert (x * x).requires_grad


def test_no_grad_holds_for_its_own_task_only():
    x = leaf(1.0)

    async def frozen(started, go_on):
        with tg.no_grad():
            started.set()
            await go_on.wait()
            return (x * x).requires_grad

    async def recording(started, go_on):
        await started.wait()
        result = (x * x).requires_grad
        go_on.set()
        return result

    async def both():
        started, go_on = asyncio.Event(), asyncio.Event()
        return await asyncio.gather(frozen(started, go_on), recording(started, go_on))

    assert asyncio.run(both()) == [False, True]


def test_no_grad_works_as_a_decorator_and_ends_after_an_error():
    x = leaf(1.0)

    @tg.no_grad()
    def frozen(fail):
        if fail:
            raise KeyError
        return x * x

    assert not frozen(False).requires_grad
    with pytest.raises(KeyError):
        frozen(True)
    assert (x * x).requires_grad


def test_threads_may_walk_one_graph_at_the_same_time():
    x = leaf(np.linspace(0, 1, 100), "float64")
    y = (x.exp() * x.sin()).sum()
    found = []
    workers = [threading.Thread(target=lambda: found.append(y.gradient(x)[0].numpy())) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 4
    for one in found:
        np.testing.assert_array_equal(one, found[0])


def test_python_numbers_and_lists_are_weak():
    single, double = leaf([1.0]), leaf([1.0], "float64")
    assert (single * 2.5 + 1).dtype == np.float32
    assert (2.5 / double).dtype == np.float64
    assert (single * [0.1]).dtype == np.float32
    assert (double * [0.1]).item() == 0.1
    assert (single * np.float64(2)).dtype == np.float64
    assert (tg.tensor([1, 2]) / 2).dtype == np.float64
    assert tg.exp(1.0).dtype == np.float32


@pytest.mark.parametrize(
    ("data", "dtype"),
    [(1.5, "float32"), ([1, 2], "int64"), (True, "bool"), (np.float64(1), "float64"), (np.ones(2), "float64"),
     (np.ones(2, ">f4"), "float32"), (np.arange(2, dtype="u1"), "uint8"), ([], "float32")],
)  # fmt: skip
def test_dtype_of_a_new_tensor(data, dtype):
    made = tg.tensor(data)
    assert made.dtype == np.dtype(dtype)
    assert made.dtype.isnative


def test_numpy_functions_keep_the_graph():
    x = leaf([1.0, 2.0])
    for y in (np.exp(x), np.ones(2, np.float32) * x, np.sum(x), np.float32(2) * x, np.reshape(x, (2, 1)), np.add(1, x)):
        assert isinstance(y, tg.Tensor)
        assert y.requires_grad


@pytest.mark.parametrize(
    "lose",
    [
        np.asarray,
        np.concatenate,
        np.linalg.norm,
        np.add.reduce,
        lambda x: np.add(x, 1, out=np.ones(2)),
        np.floor,
        np.array,
    ],
)
def test_numpy_functions_that_would_lose_the_graph_refuse(lose):
    with pytest.raises(TinygradWNError, match="hint"):
        lose(leaf([1.0, 2.0]))


def test_numpy_takes_a_tensor_without_gradient():
    assert np.asarray(tg.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]
    assert np.asarray(leaf([1.0, 2.0]).detach()).tolist() == [1.0, 2.0]


@given(st.integers(-5, 5), st.integers(1, 4))
def test_operators_equal_those_of_numpy(a, b):
    x, y = np.array([a, 1.5 * a]), np.array([b, 0.5 * b])
    tx, ty = tg.tensor(x), tg.tensor(y)
    for f in (
        lambda p, q: p + q, lambda p, q: p - q, lambda p, q: p * q, lambda p, q: p / q, lambda p, q: p // q,
        lambda p, q: p % q, lambda p, q: abs(p) ** q, lambda p, q: p @ q, lambda p, q: p < q, lambda p, q: p <= q,
        lambda p, q: p > q, lambda p, q: p >= q, lambda p, q: p == q, lambda p, q: p != q, lambda p, q: -p + +q,
        lambda p, q: (p > 0) & (q > 1), lambda p, q: (p > 0) | (q > 1), lambda p, q: ~(p > 0) ^ (q > 1),
    ):  # fmt: skip
        for result in (f(tx, ty), f(tx, y), f(x, ty)):
            assert isinstance(result, tg.Tensor)
            np.testing.assert_array_equal(result.numpy(), f(x, y))
    np.testing.assert_array_equal(tg.stack(divmod(tx, 3)).numpy(), divmod(x, 3))
    np.testing.assert_array_equal(tg.stack(divmod(7, ty)).numpy(), divmod(7, y))
    np.testing.assert_array_equal((2 ** tg.tensor([b]) << 1 >> 1).numpy(), [2**b])


def test_a_tensor_behaves_as_a_python_object():
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    assert (len(x), x.ndim, x.size, x.shape, x.T.shape) == (2, 2, 4, (2, 2), (2, 2))
    assert [row.sum().item() for row in x] == [3.0, 7.0]
    assert (float(tg.tensor(2.5)), int(tg.tensor(2.5)), bool(tg.tensor(0.0)), list(range(tg.tensor(2)))) == (
        2.5,
        2,
        False,
        [0, 1],
    )
    assert {x: 1}[x] == 1
    assert repr(leaf(1.0)) == "Tensor(1., requires_grad=True)"
    for other in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        np.testing.assert_array_equal(other.numpy(), x.numpy())
        assert other.requires_grad
        other.data = np.zeros((2, 2))
    assert x.numpy()[0, 0] == 1


def test_random_numbers_follow_the_seed():
    tg.seed(3)
    first = tg.randn(4)
    tg.seed(3)
    np.testing.assert_array_equal(tg.randn((4,)).numpy(), first.numpy())
    np.testing.assert_array_equal(tg.randn(4, rng=3).numpy(), first.numpy())
    assert not np.array_equal(tg.randn(4).numpy(), first.numpy())


def test_graph_as_text_has_every_op_and_edge():
    x = leaf([1.0, 2.0])
    drawn = tg.graph((x.exp() * x).sum())
    assert [line.strip() for line in drawn.dot.splitlines()] == [
        "digraph {",
        't0 [label="float32 [2] wants gradient", shape=oval];',
        'n0 [label="exp", shape=box];',
        'n1 [label="multiply", shape=box];',
        'n2 [label="sum", shape=box];',
        "t0 -> n0;",
        "n0 -> n1;",
        "t0 -> n1;",
        "n1 -> n2;",
        "}",
    ]
    assert drawn.mermaid.count("-->") == 4
