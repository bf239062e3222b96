"""What tests of refusals share: the error is of that very kind, says what is to be said, and changed nothing."""

from collections.abc import Callable

import pytest
from numpy.testing import assert_array_equal

from tinygrad_wn import nn


def message(kind: type[Exception], call: Callable[[], object]) -> str:
    """The text of an error of this kind, and of none that inherits it."""
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    return str(caught.value)


def unchanged(net: nn.Module, call: Callable[[], object], kind: type[Exception]) -> str:
    """The message of an error that leaves the values, and the layers, as they were."""
    before = net.state_dict()
    attributes = [set(vars(part)) for _, part in net.named_modules()]
    text = message(kind, call)
    after = net.state_dict()
    for name, values in before.items():
        assert_array_equal(after[name], values)
    assert [set(vars(part)) for _, part in net.named_modules()] == attributes
    return text
