"""What students write in the notebook: mistakes, with the check that must find each, and other ways to be right."""

PARTS = {
    "slopes": 'check_slopes(Value, "+", "*")',
    "order": "check_topological(topological, Value)",
    "value": 'check_value(Value, "+", "*")',
    "functions": 'check_value(Value, "+", "*", "-", "/", "**", "exp", "tanh", "relu")',
    "sum_to": "check_sum_to(sum_to)",
    "tensor": 'check_tensor(Tensor, "+", "*")',
    "entries": 'check_tensor(Tensor, "+", "*", "-", "/", "**", "exp", "log", "relu", "sum")',
    "matmul": 'check_tensor(Tensor, "@", "T", "+", "*", "sum")',
    "loss": "check_loss(cross_entropy, Tensor)",
    "weight": 'check_weight("values", "axis meaning", "dtype kept", weight=weight)',
    "equation 3": 'check_weight("gradient", weight=weight, gradient=gradient)',
    "equation 4": "check_weight(*properties, weight=weight, gradient=gradient_by_projection)",
    "stable": "check_weight(*properties, weight=stable_weight, gradient=stable_gradient)",
    "second": 'check_weight("second order", weight=weight, second=second)',
    "network": "check_network(network, cross_entropy, Tensor)",
}
"""The checks of the notebook, in its order."""

LISTED = """
        visited.add(node)
        order.insert(0, node)
        return [visit(parent) for parent in node.parents]
"""
SHARED = """if np.any(parent.grad):
                        parent.grad += ct
                    else:
                        parent.grad = ct if ct.shape == parent.data.shape else sum_to(ct, parent.data.shape)"""
IN_PLACE = """if self.data.shape == np.broadcast(self.data, other.data).shape:
            self.data += other.data
            return Tensor(self.data, (self, other), lambda ct: (ct, ct))
        return Tensor(self.data + other.data,"""
LENGTH_OF_W = """u = g * v / norm
    u = u / np.sqrt(np.sum(u * u, axis=rest, keepdims=True))
"""
ADDED = "parent.grad + sum_to(ct, parent.data.shape)"
SENT = "parent.grad += node.grad * slope"
OVER_SLOPES = "for node in reversed(order):\n        for parent"
OVER_PULLS = "for node in reversed(order):\n            if"
NORM = "** 0.5\n    u = v / norm"

MISTAKES = {
    "slopes of a product the wrong way round": ("slopes", "(other.data, self.data))", "(self.data, other.data))"),
    "a parent left out": ("slopes", "(self, other), (1.0, 1.0)", "(self,), (1.0,)"),
    "children before parents": ("order", "return order\n", "return order[::-1]\n"),
    "listed when first met": ("order", "\n        visited.add(node)\n", LISTED),
    "met twice, listed twice": ("order", "        visited.add(node)\n", ""),
    "gradients overwritten": ("value", SENT, "parent.grad = node.grad * slope"),
    "no chain rule": ("value", SENT, "parent.grad += slope"),
    "walked from the leaves": ("value", OVER_SLOPES, "for node in order:\n        for parent"),
    "seeded with 0": ("value", "self.grad = 1.0\n", "self.grad = 0.0\n"),
    "the first parent alone": (
        "value",
        "zip(node.parents, node.slopes, strict=True)",
        "zip(node.parents[:1], node.slopes)",
    ),
    "walked in the order of a list when first met": ("value", "\n        visited.add(node)\n", LISTED),
    "exponent not lowered": ("functions", "n * self.data ** (n - 1),)", "n * self.data**n,)"),
    "sign of tanh": ("functions", "1 - y * y", "1 + y * y"),
    "slope of exp at the result": ("functions", "Value(y, (self,), (y,))", "Value(y, (self,), (math.exp(y),))"),
    "relu that leaks": ("functions", "1.0 if self.data > 0 else 0.0", "1.0"),
    "slope 1 of relu at 0": ("functions", "1.0 if self.data > 0 else", "1.0 if self.data >= 0 else"),
    "new axes kept": ("sum_to", "ct = ct.sum(axis=tuple(range(ct.ndim - len(shape))))", "ct = ct + 0"),
    "stretched axes dropped": ("sum_to", "ct.sum(axis=stretched, keepdims=True)", "ct.sum(axis=stretched)"),
    "mean for sum": ("sum_to", "return ct.sum(", "return ct.mean("),
    "writes into the cotangent": ("sum_to", "    ct = ct.sum(axis=tuple", "    ct *= 2\n    ct = ct.sum(axis=tuple"),
    "no sum over what was stretched": ("tensor", ADDED, "parent.grad + ct"),
    "arrays overwritten": ("tensor", ADDED, "sum_to(ct, parent.data.shape)"),
    "grads that share memory": ("tensor", f"parent.grad = {ADDED}", SHARED),
    "data changed in place": ("tensor", "return Tensor(self.data + other.data,", IN_PLACE),
    "cotangent ignored": ("tensor", "np.ones_like(self.data) * start", "np.ones_like(self.data)"),
    "arrays sent from the leaves": ("tensor", OVER_PULLS, "for node in order:\n            if"),
    "cotangent of a sum not stretched": ("entries", "(np.broadcast_to(ct, self.data.shape),)", "(ct,)"),
    "sum that forgets its axis": ("entries", "ct = np.expand_dims(ct, axis)", "ct = np.expand_dims(ct, 0)"),
    "log without its quotient": ("entries", "(ct / self.data,)", "(ct,)"),
    "relu by the cotangent": ("entries", "np.where(x > 0, ct, 0)", "np.maximum(ct, 0)"),
    "transposes left out": ("matmul", "(ct @ b.T, a.T @ ct)", "(ct @ b, a @ ct)"),
    "cotangents of a product exchanged": ("matmul", "a.T @ ct)", "ct.T @ a)"),
    "cotangent not transposed": ("matmul", "lambda ct: (ct.T,)", "lambda ct: (ct,)"),
    "exp(1000)": ("loss", "x = logits - logits.data.max(axis=1, keepdims=True)", "x = logits"),
    "sum for mean": ("loss", "(-1 / rows)", "(-1)"),
    "sign of the loss": ("loss", "(-1 / rows)", "(1 / rows)"),
    "norm of the whole": ("weight", "axis=others(v, axis), keepdims=True))", "keepdims=True))"),
    "norm squared": ("weight", "g * v / np.sqrt(np.sum(", "g * v / (np.sum("),
    "no second term": ("equation 3", "g / norm * ct - g * grad_g / norm**2 * v", "g / norm * ct"),
    "a sign in equation 3": ("equation 3", "g / norm * ct - g", "g / norm * ct + g"),
    "w for u, where g is 0": ("equation 4", "u = v / norm\n", LENGTH_OF_W),
    "no care for scale": ("stable", "e = np.frexp(top)[1]", "e = np.zeros_like(top, int)"),
    "power of two forgotten": ("stable", "np.ldexp(g * (ct - grad_g * u) / norm, -e)", "g * (ct - grad_g * u) / norm"),
    "NaN for zeros": ("stable", "if np.any(top == 0):", "if False:"),
    "in float32": ("stable", "wide = v.astype(np.float64)", "wide = v"),
    "a norm that is a number": ("second", NORM, "** 0.5\n    norm = Tensor(norm.data)\n    u = v / norm"),
    "relu after the last layer": ("network", "    return h\n", "    return h.relu()\n"),
    "g left out": ("network", "v * (g * (v", "v * ((v"),
    "norm by columns": ("network", "(v * v).sum(axis=1", "(v * v).sum(axis=0"),
}
"""By name: a check of PARTS, text of the solution, and what to write in its place."""

QUEUED = """pending, users, reached = [root], {}, [root]
    for node in reached:
        for parent in node.parents:
            if parent not in users:
                reached.append(parent)
            users[parent] = users.get(parent, 0) + 1
    order = []
    while pending:
        node = pending.pop()
        order.insert(0, node)
        for parent in node.parents:
            users[parent] -= 1
            if users[parent] == 0:
                pending.append(parent)
    return order
"""
LOOP = """while ct.ndim > len(shape):
        ct = ct.sum(axis=0)
    for i, n in enumerate(shape):
        if n == 1:
            ct = ct.sum(axis=i, keepdims=True)
    return ct
"""
BY_HAND = """p = np.exp(logits.data - logits.data.max(axis=1, keepdims=True))
    p = p / p.sum(axis=1, keepdims=True)
    x = logits.data - logits.data.max(axis=1, keepdims=True)
    losses = np.log(np.exp(x).sum(axis=1)) - x[np.arange(rows), labels]
    return Tensor(losses.mean(), (logits,), lambda ct: (ct * (p - np.eye(classes)[labels]) / rows,))
"""
OWN = "parent.grad += sum_to(ct, parent.data.shape)"
ZERO = 'raise ValueError("a slice of v is zero, so it has no direction")'
SQUARES = "(v * v).sum(axis=1, keepdims=True)"
ALTERNATIVES = {
    "lists for tuples": ("slopes", "(self, other), (1.0, 1.0)", "[self, other], [1, 1]"),
    "users counted, no recursion": ("order", "order, visited = [], set()\n", QUEUED),
    "a sign by cases": ("functions", "1.0 if self.data > 0 else 0.0", "math.copysign(1, self.data) * (self.data > 0)"),
    "a loop over axes": ("sum_to", "ct = ct.sum(axis=tuple(range(ct.ndim - len(shape))))\n", LOOP),
    "sums in arrays of their own": ("tensor", f"parent.grad = {ADDED}", OWN),
    "a sum by ones": ("entries", "(np.broadcast_to(ct, self.data.shape),)", "(np.ones_like(self.data) * ct,)"),
    "softmax by hand": ("loss", "x = logits - logits.data.max(axis=1, keepdims=True)\n", BY_HAND),
    "another power of two": ("stable", "e = np.frexp(top)[1]", "e = np.floor(np.log2(top)).astype(int)"),
    "ones for a zero slice": ("stable", ZERO, "wide, top = wide + (top == 0), top + (top == 0)"),
    "equation 3 for 4": ("second", "g / norm * (ct - grad_g * u)", "g / norm * ct - g * grad_g / norm**2 * v"),
    "divided by the norm": ("network", f"v * (g * {SQUARES} ** -0.5)", f"g * v / {SQUARES} ** 0.5"),
}
"""Other ways to be right, as in MISTAKES."""
