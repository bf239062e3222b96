"""Names that PyTorch and NumPy have for what has another name here, or is written in another way."""

from __future__ import annotations

METHODS = {
    "abs": "abs(x)",
    "all": "tg.all(x)",
    "any": "tg.any(x)",
    "argmin": "(-x).argmax(axis), or of x.astype('float64') where x has no sign",
    "clamp": "tg.clip(x, min, max)",
    "clip": "tg.clip(x, min, max)",
    "clone": "tg.tensor(x), or x * 1 to keep the graph",
    "copy": "tg.tensor(x), or x * 1 to keep the graph",
    "cpu": "nothing: all tensors are on the CPU",
    "cuda": "nothing: all tensors are on the CPU",
    "double": "x.astype('float64')",
    "expand": "tg.broadcast_to(x, shape)",
    "flatten": "x.reshape(-1)",
    "float": "x.astype('float32')",
    "gather": "tg.take(x, indices, axis), or x[indices]",
    "log_softmax": "tg.log_softmax(x, axis)",
    "long": "x.astype('int64')",
    "masked_fill": "tg.where(mask, value, x)",
    "matmul": "x @ y",
    "mm": "x @ y",
    "numel": "x.size",
    "permute": "x.permute_dims(axes)",
    "pow": "x ** y",
    "ravel": "x.reshape(-1)",
    "requires_grad_": "x.requires_grad = True",
    "softmax": "tg.softmax(x, axis)",
    "std": "x.var(axis) ** 0.5",
    "swapaxes": "x.permute_dims(axes)",
    "t": "x.T",
    "to": "x.astype(dtype): all tensors are on the CPU",
    "tolist": "x.numpy().tolist()",
    "transpose": "x.permute_dims(axes)",
    "unsqueeze": "tg.expand_dims(x, axis)",
    "view": "x.reshape(shape)",
}
"""What to write for a method x.name, by its name."""

FUNCTIONS = {
    "argmin": "(-x).argmax(axis), or of x.astype('float64') where x has no sign",
    "as_tensor": "tg.tensor",
    "binary_cross_entropy": "tg.softplus: the loss of a logit z for a label y of 0 or 1 is softplus(z) - y * z",
    "cat": "tg.concat",
    "clamp": "tg.clip",
    "concatenate": "tg.concat",
    "eye": "tg.tensor(np.eye(n))",
    "from_numpy": "tg.tensor",
    "full_like": "tg.full(x.shape, value, x.dtype)",
    "functional": "functions of tg, such as tg.relu",
    "linspace": "tg.tensor(np.linspace(...))",
    "manual_seed": "tg.seed",
    "mm": "tg.matmul, or x @ y",
    "mse_loss": "tg.mse",
    "norm": "tg.linalg.vector_norm",
    "ones_like": "tg.ones(x.shape, x.dtype)",
    "pow": "tg.power, or x ** y",
    "rand": "tg.tensor(tg.generator().random(shape))",
    "std": "tg.var(x, axis) ** 0.5",
    "transpose": "tg.permute_dims",
    "unsqueeze": "tg.expand_dims",
    "zeros_like": "tg.zeros(x.shape, x.dtype)",
}
"""What to take for a function tg.name, by its name."""


class Elsewhere:
    """An attribute that is not there, and says what to write."""

    def __init__(self, owner: str, name: str, known: dict[str, str]) -> None:
        self.name, self.text = name, missing(owner, name, known)

    def __get__(self, instance: object, owner: object = None) -> object:
        """Raise AttributeError."""
        raise AttributeError(self.text, name=self.name, obj=instance)


def missing(owner: str, name: str, known: dict[str, str]) -> str:
    """What to say of an attribute that is not there."""
    return f"{owner} has no {name!r}{f'; take {known[name]}' if name in known else ''}"
