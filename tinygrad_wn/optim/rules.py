"""SGD, Adam and AdamW. The formulas are the ops of `ops/update.py`; here they meet parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..creation import zeros
from ..errors import ValueRangeError
from ..ops.arithmetic import add
from ..ops.update import adam_update, momentum_update, sgd_update
from ..slot import depends_on, each_step, is_recorded
from .optimizer import Optimizer, in_range

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..tensor import Tensor
    from .optimizer import Work


class SGD(Optimizer):
    """Gradient descent: p ← p - lr m with m ← momentum m + g, where g is the gradient plus weight_decay p.

    `nesterov` takes g + momentum m for m in the step, as PyTorch (Sutskever et al. 2013). Options can be set for each
    group of parameters. Raises ValueRangeError for options that are negative or not finite, and for nesterov without
    momentum; for parameters, what `add_param_group` raises.

    >>> w = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> optimizer = tg.optim.SGD([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.detach()
    Tensor([0.5, 1. ])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay})

    def check(self, group: Mapping[str, Any]) -> None:
        """Raise ValueRangeError for an option out of range."""
        super().check(group)
        if group["nesterov"] and not group["momentum"]:
            raise ValueRangeError("SGD: nesterov needs momentum", {"momentum": group["momentum"]}, hint="momentum=0.9")

    def begin(self, p: Tensor) -> dict[str, Any]:
        """A sum of gradients, at zero."""
        return {"momentum": zeros(p.shape, p.dtype)}

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: Mapping[str, Any]) -> None:
        """Carry out `sgd_update` or `momentum_update` in place, for one parameter."""
        SGD.update_all(self, [(p, g, state)], group)

    def update_all(self, work: list[Work], group: Mapping[str, Any]) -> None:
        """Carry out `sgd_update` or `momentum_update` in place, in one call."""
        depends_on(lambda: (group["momentum"], group["nesterov"], group["weight_decay"]))
        (lr,) = each_step(lambda: (self.rate(group),), steady=type(self).rate is Optimizer.rate)
        momentum, decay = float(group["momentum"]), float(group["weight_decay"])
        targets: list[Tensor] = []
        tensors: list[Tensor] = []
        if not momentum:
            for p, g, _ in work:
                targets.append(p)
                tensors += (p, g)
            sgd_update.into(tuple(targets), lr, *tensors, weight_decay=decay)
            return
        for p, g, state in work:
            if not state:
                self.begun(p, state)
            m = state["momentum"]
            targets += (p, m)
            tensors += (p, m, g)
        nesterov = bool(group["nesterov"])
        momentum_update.into(tuple(targets), lr, *tensors, momentum=momentum, nesterov=nesterov, weight_decay=decay)


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, arXiv 1412.6980, algorithm 1); weight_decay p is added to the gradient, as in PyTorch.

    Raises ValueRangeError for options that are negative or not finite, and betas that are not two numbers below 1; for
    parameters, what `add_param_group` raises.

    >>> w = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> optimizer = tg.optim.Adam([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.detach()
    Tensor([0.5, 1.5])
    """

    decoupled = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """The same as of any optimizer; a list of betas becomes a tuple, which cannot change without a word."""
        super().add_param_group(group)
        betas = self.param_groups[-1]["betas"]
        self.param_groups[-1]["betas"] = tuple(betas) if isinstance(betas, list) else betas

    def check(self, group: Mapping[str, Any]) -> None:
        """Raise ValueRangeError for an option out of range."""
        super().check(group)
        betas = group["betas"]
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise ValueRangeError(f"{type(self).__name__}: betas must be two numbers", {"given": repr(betas)})
        for i, beta in enumerate(betas):
            in_range(f"{type(self).__name__}: betas[{i}]", beta, below=1)

    def begin(self, p: Tensor) -> dict[str, Any]:
        """Running means of the gradient and of its square, and the number of steps."""
        return {"mean": zeros(p.shape, p.dtype), "square": zeros(p.shape, p.dtype), "step": zeros((), "float64")}

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: Mapping[str, Any]) -> None:
        """Carry out `adam_update` in place, for one parameter."""
        Adam.update_all(self, [(p, g, state)], group)

    def update_all(self, work: list[Work], group: Mapping[str, Any]) -> None:
        """Carry out `adam_update` in place, in one call for all parameters that have gone equally many steps.

        A step that is being recorded has a call for each: it must hold also when some of them fall behind.
        """
        depends_on(lambda: (*group["betas"], group["eps"], group["weight_decay"]))
        (lr,) = each_step(lambda: (self.rate(group),), steady=type(self).rate is Optimizer.rate)
        by_step: dict[float, list[Work]] = {}
        for i, (p, g, state) in enumerate(work):
            if not state:
                self.begun(p, state)
            count = state["step"]
            add.into((count,), count, 1)
            by_step.setdefault(i if is_recorded() else count.item(), []).append((p, g, state))
        beta1, beta2 = group["betas"]
        options: dict[str, Any] = {
            "beta1": float(beta1),
            "beta2": float(beta2),
            "eps": float(group["eps"]),
            "weight_decay": float(group["weight_decay"]),
            "decoupled": self.decoupled,
        }
        for now in by_step.values():
            targets: list[Tensor] = []
            tensors: list[Tensor] = []
            for p, g, state in now:
                m, s = state["mean"], state["square"]
                targets += (p, m, s)
                tensors += (p, m, s, g)
            adam_update.into(tuple(targets), lr, now[0][2]["step"], *tensors, **options)


class AdamW(Adam):
    """Adam whose weight decay is apart from the gradient: p ← p - lr weight_decay p (arXiv 1711.05101, algorithm 2).

    Arguments and errors as for Adam.

    >>> w = tg.tensor([1.0], requires_grad=True)
    >>> w.grad = tg.zeros(1)
    >>> tg.optim.AdamW([w], lr=0.5, weight_decay=0.5).step()
    >>> w.detach()
    Tensor([0.75])
    """

    decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)
