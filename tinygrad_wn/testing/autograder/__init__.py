"""Judge a student's engine: `Value`, `Tensor`, weight normalization, a network. For the notebook, and other courses.

Each check draws examples with Hypothesis, and holds what the student's code computes against this package, or against
decimal arithmetic for weight normalization. It returns a `Report`, which a notebook shows: the smallest example that
goes wrong and what to look at, or what was tried. Needs Hypothesis, which `pip install "tinygrad_wn[notebook]"` brings.

What the names must be is said at each check. A `Value(data)` or `Tensor(data)` has `.data`, `.grad` and `.backward()`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import programs
from .example import EXAMPLES, judge
from .report import Report
from .weights import check_weight

if TYPE_CHECKING:
    from collections.abc import Callable

FOR_EACH_OP = 60
"""Examples that a check of programs draws for each op, at least."""

__all__ = [
    "Report",
    "check_loss",
    "check_network",
    "check_slopes",
    "check_sum_to",
    "check_tensor",
    "check_topological",
    "check_value",
    "check_weight",
]


def check_slopes(value: Callable[..., Any], *ops: str, examples: int = EXAMPLES) -> Report:
    """Check `a op b` of the class Value for each op: `.data`, `.parents` (a, b), and `.slopes`, of the result by each.

    >>> from tinygrad_wn.testing import autograder
    >>> class Value:
    ...     def __init__(self, data, parents=(), slopes=()):
    ...         self.data, self.parents, self.slopes = data, parents, slopes
    ...     def __mul__(self, other):
    ...         return Value(self.data * other.data, (self, other), (self.data, other.data))
    >>> autograder.check_slopes(Value, "*")
    ✗ slopes of *: wrong
      The smallest example that goes wrong:
          a = Value(2.0)
          b = Value(3.0)
          c = a * b
          list(c.slopes)  # found [2, 3], expected [3, 2]
      By how much does the result grow if a grows a little and b stays? And the other way round?
    """
    advice = "By how much does the result grow if a grows a little and b stays? And the other way round?"
    strategy = programs.one_step([f"a {op} b" for op in ops])
    proven = "values, parents and slopes agree with tinygrad_wn"
    return judge(f"slopes of {' and '.join(ops)}", proven, strategy, {"Value": value}, advice, examples)


def check_topological(
    topological: Callable[..., Any], value: Callable[..., Any], *, examples: int = EXAMPLES
) -> Report:
    """Check `topological(root)`: a list of all nodes below root, once each, none before its parents. Needs Value's +.

    >>> from tinygrad_wn.testing import autograder
    >>> class Value:
    ...     def __init__(self, data, parents=()):
    ...         self.data, self.parents = data, parents
    ...     def __add__(self, other):
    ...         return Value(self.data + other.data, (self, other))
    >>> autograder.check_topological(lambda root: [*root.parents, root], Value, examples=50).passed
    False
    """
    advice = "Each node comes once, after its parents: append it when its parents are in the list."
    proven = "every node is there once, and after its parents"
    names = {"Value": value, "topological": topological}
    return judge("topological order", proven, programs.orders(), names, advice, examples)


def check_value(value: Callable[..., Any], *ops: str, examples: int | None = None) -> Report:
    """Check programs of these ops on the class Value: the result, and `.grad` of each leaf after `.backward()`.

    `ops` are of +, *, -, /, **, exp, log, tanh and relu; the last four are methods. Raises ValueRangeError for others.

    >>> from tinygrad_wn.testing import autograder
    >>> autograder.check_value(lambda x: tg.tensor(np.float64(x), requires_grad=True), "+", "exp", examples=20)
    ✓ Value with + and exp: right
      20 examples, drawn at random: values and gradients of programs of up to 6 steps agree
      with tinygrad_wn.
    """
    return _of_programs("Value", value, ops, examples)


def check_tensor(tensor: Callable[..., Any], *ops: str, examples: int | None = None) -> Report:
    """Check programs of these ops on the class Tensor, of 0 to 2 axes that broadcast: results and gradients.

    `.backward(cotangent)` of the result takes an array of its shape. `ops` are of +, *, -, /, **, exp, log, tanh, relu,
    sum (a method with `axis` and `keepdims`), @ and T. Raises ValueRangeError for others.

    >>> from tinygrad_wn.testing import autograder
    >>> autograder.check_tensor(lambda x: tg.tensor(x, requires_grad=True), "+", "sum", examples=20).passed
    True
    """
    return _of_programs("Tensor", tensor, ops, examples)


def _of_programs(kind: str, made: Callable[..., Any], ops: tuple[str, ...], examples: int | None) -> Report:
    title = f"{kind} with {', '.join(ops[:-1])}{' and ' if len(ops) > 1 else ''}{ops[-1]}"
    proven = f"values and gradients of programs of up to {programs.STEPS} steps agree with tinygrad_wn"
    advice = "Work the slope out by hand for these numbers, and compare."
    examples = examples or max(EXAMPLES, FOR_EACH_OP * len(ops))
    return judge(title, proven, programs.programs(kind, ops), {kind: made}, advice, examples)


def check_sum_to(sum_to: Callable[..., Any], *, examples: int = EXAMPLES) -> Report:
    """Check `sum_to(ct, shape)`: `ct` summed over the axes along which an array of `shape` was broadcast.

    >>> from tinygrad_wn.testing import autograder
    >>> autograder.check_sum_to(lambda ct, shape: ct)
    ✗ sum_to: wrong
      The smallest example that goes wrong:
          ct = np.array([2.0, 3.0])
          y = sum_to(ct, ())
          y  # found [2, 3], expected 5
      The result must have the given shape: axes that were added are gone, axes that were
      stretched have size 1.
    """
    advice = (
        "The result must have the given shape: axes that were added are gone, axes that were stretched have size 1."
    )
    proven = "it is the gradient of broadcasting, for 1 to 3 axes, and leaves its argument as it was"
    return judge("sum_to", proven, programs.cotangents(), {"sum_to": sum_to}, advice, examples)


def check_loss(cross_entropy: Callable[..., Any], tensor: Callable[..., Any], *, examples: int = EXAMPLES) -> Report:
    """Check `cross_entropy(logits, labels)`, the mean of -log softmax(logits)[label] over rows, as a Tensor.

    >>> from tinygrad_wn.testing import autograder
    >>> autograder.check_loss(tg.cross_entropy, lambda x: tg.tensor(x, requires_grad=True), examples=20).passed
    True
    """
    advice = "Subtract the largest logit of each row first: exp(1000) is infinite. The mean is over rows."
    proven = "values and gradients agree with tinygrad_wn, for logits up to 4000"
    names = {"cross_entropy": cross_entropy, "Tensor": tensor}
    return judge("cross-entropy", proven, programs.losses(), names, advice, examples)


def check_network(
    network: Callable[..., Any],
    cross_entropy: Callable[..., Any],
    tensor: Callable[..., Any],
    *,
    examples: int = EXAMPLES,
) -> Report:
    """Check `network(x, layers)`: layers (v, g, b) compute x wᵀ + b with w = g v/‖v‖ by rows, and relu between them.

    v has shape (out, in), g (out, 1) and b (out,). Values, the loss and the gradients of all parameters are compared.

    >>> from tinygrad_wn.testing import autograder
    >>> def network(x, layers):
    ...     for n, (v, g, b) in enumerate(layers):
    ...         x = tg.linear(x if n == 0 else tg.relu(x), tg.weight_norm(v, g), b)
    ...     return x
    >>> leaf = lambda x: tg.tensor(x, requires_grad=True)
    >>> autograder.check_network(network, tg.cross_entropy, leaf, examples=10).passed
    True
    """
    advice = "Row k of w belongs to output k. relu comes between layers, not after the last."
    proven = "results, losses and gradients of networks of one or two layers agree with tinygrad_wn"
    names = {"network": network, "cross_entropy": cross_entropy, "Tensor": tensor}
    return judge("network with weight normalization", proven, programs.networks(), names, advice, examples)
