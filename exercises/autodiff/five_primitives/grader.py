"""Grades reverse mode line by line from the definition, and whole tapes against the library."""

import numpy as np

import minitf as mt
from minitf.grade import Student, check, expect, expect_close

LIBRARY = {"add": mt.add, "multiply": mt.multiply, "matmul": mt.matmul, "exp": mt.exp, "sum": mt.sum}
#: of arrays whose entries are taken one by one
SHAPES = ((), (1,), (3,), (2, 3))
#: (T, D, F) of a product of matrices
PRODUCTS = ((1, 1, 1), (1, 2, 1), (2, 1, 3), (4, 3, 5))


def run(tape, inputs):
    """All values of a tape, by the library."""
    values = list(inputs)
    for primitive, indices in tape:
        values.append(LIBRARY[primitive](*(values[i] for i in indices)))
    return values


def compare_gradient(student, tape, inputs):
    """The gradient of a tape against the library's."""
    want = [np.asarray(g) for g in mt.grad(lambda inputs: run(tape, inputs)[-1])(inputs)]
    compare_all(student.gradient(tape, inputs), want, [f"the gradient of input {i}" for i in range(len(inputs))], tape)


def compare_all(got, want, names, tape=None):
    """Lists of arrays against each other; rounding is measured by the largest entry, other orders of sums are right."""
    shown = {} if tape is None or len(tape) > 6 else {"tape": [(name, list(indices)) for name, indices in tape]}
    expect(len(got) == len(want), f"a list of {len(want)} arrays should come back, but there are {len(got)}", **shown)
    for array, expected, name in zip(got, want, names, strict=True):
        what = f"{name} of {shown['tape']}" if shown else name
        expect_close(array, expected, atol=1e-10 * max(1.0, np.abs(expected).max()), what=what)


@check("evaluate returns the inputs and the result of each line", points=2, hint=1)
def forward(student: Student, rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 3))
    tapes = [([(name, (0,))], [x]) for name in ("exp", "sum")]
    tapes += [([(name, (0, 1))], list(rng.standard_normal((2, 2, 3)))) for name in ("add", "multiply")]
    for T, D, F in PRODUCTS:
        tapes.append(([("matmul", (0, 1))], [rng.standard_normal((T, D)), rng.standard_normal((D, F))]))
    tapes.append(([("multiply", (0, 0)), ("exp", (1,)), ("add", (2, 0)), ("sum", (3,))], [x]))
    for tape, inputs in tapes:
        want = [np.asarray(value) for value in run(tape, inputs)]
        compare_all(student.evaluate(tape, inputs), want, [f"value {i}" for i in range(len(want))], tape)


@check("the cotangents of add and of multiply", points=2, hint=2)
def products(student: Student, rng: np.random.Generator) -> None:
    names = ("the cotangent of the first argument", "the cotangent of the second argument")
    for shape in SHAPES:
        g, x, y = (rng.standard_normal(shape) for _ in range(3))
        g, x, y = np.asarray(g), np.asarray(x), np.asarray(y)
        compare_all(student.vjp("add", g, [x, y]), [g, g], names)
        compare_all(student.vjp("multiply", g, [x, y]), [g * y, g * x], names)


@check("the cotangents of matmul", points=3, hint=2)
def matrices(student: Student, rng: np.random.Generator) -> None:
    for T, D, F in PRODUCTS:
        g, a, b = rng.standard_normal((T, F)), rng.standard_normal((T, D)), rng.standard_normal((D, F))
        of_a, of_b = np.zeros((T, D)), np.zeros((D, F))
        for t, d, f in np.ndindex(T, D, F):  # ∂L is the sum of g[t, f] (∂a[t, d] b[d, f] + a[t, d] ∂b[d, f])
            of_a[t, d] += g[t, f] * b[d, f]
            of_b[d, f] += g[t, f] * a[t, d]
        names = ("the cotangent of the left matrix", "the cotangent of the right matrix")
        compare_all(student.vjp("matmul", g, [a, b]), [of_a, of_b], names)


@check("the cotangents of exp and of sum have the shape of the argument", points=2, hint=2)
def exp_and_sum(student: Student, rng: np.random.Generator) -> None:
    for shape in SHAPES:
        g, x = np.asarray(rng.standard_normal(shape)), np.asarray(rng.standard_normal(shape))
        compare_all(student.vjp("exp", g, [x]), [g * np.exp(x)], ["the cotangent of exp's argument"])
        number = np.asarray(rng.standard_normal())
        compare_all(student.vjp("sum", number, [x]), [np.full(shape, number)], ["the cotangent of sum's argument"])


@check("tapes in which every value is used once", points=2, hint=3)
def chains(student: Student, rng: np.random.Generator) -> None:
    compare_gradient(student, [("sum", (0,))], [rng.standard_normal((2, 3))])
    compare_gradient(student, [("exp", (0,)), ("sum", (1,))], [rng.standard_normal(3)])
    for name in ("add", "multiply"):
        compare_gradient(student, [(name, (0, 1)), ("sum", (2,))], list(rng.standard_normal((2, 3))))
    for T, D, F in PRODUCTS:
        inputs = [rng.standard_normal(shape) for shape in ((T, D), (D, F), (T, F))]
        compare_gradient(student, [("matmul", (0, 1)), ("multiply", (2, 3)), ("exp", (4,)), ("sum", (5,))], inputs)


@check("a value used in several places collects the cotangents of all of them", points=3, hint=3)
def several_uses(student: Student, rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((2, 3))
    compare_gradient(student, [("add", (0, 0)), ("sum", (1,))], [x])
    compare_gradient(student, [("add", (0, 0)), ("add", (1, 0)), ("sum", (2,))], [x])
    compare_gradient(student, [("exp", (0,)), ("add", (0, 1)), ("sum", (2,))], [x])
    compare_gradient(student, [("exp", (0,)), ("add", (0, 1)), ("add", (2, 3)), ("sum", (4,))], [x, y])
    compare_gradient(student, [("sum", (0,)), ("add", (1, 1)), ("exp", (0,)), ("sum", (3,)), ("add", (2, 4))], [x])


@check("inputs that the result does not depend on have a gradient of zeros", points=2, hint=3)
def unused(student: Student, rng: np.random.Generator) -> None:
    x, y, z = rng.standard_normal(3), rng.standard_normal((2, 3)), rng.standard_normal((2, 3))
    compare_gradient(student, [("sum", (0,))], [x, y])
    compare_gradient(student, [("exp", (1,)), ("sum", (2,)), ("sum", (0,))], [x, y])  # used, but for nothing
    compare_gradient(student, [("multiply", (1, 2)), ("exp", (0,)), ("sum", (3,))], [x, y, z])


@check("tapes drawn at random", points=3, hint=3)
def random_tapes(student: Student, rng: np.random.Generator) -> None:
    for n_lines in range(2, 14):
        size = int(rng.integers(1, 4))
        inputs = list(rng.standard_normal((2, size, size)))
        tape, values, unread = [], list(inputs), {0, 1}

        def write(primitive, *indices, tape=tape, values=values, unread=unread):
            values.append(np.asarray(LIBRARY[primitive](*(values[i] for i in indices))))
            tape.append((primitive, indices))
            unread.difference_update(indices)
            unread.add(len(values) - 1)

        for _ in range(n_lines):
            i, j = (int(i) for i in rng.integers(0, len(values), 2))
            small = max(np.abs(values[i]).max(), np.abs(values[j]).max()) < 3  # nothing grows without bounds
            primitive = str(rng.choice(["add", "multiply", "matmul", "exp"])) if small else "add"
            write(primitive, *((i,) if primitive == "exp" else (i, j)))
        write("multiply", 0, 1)
        write("add", 1, 1)
        write("matmul", 0, 1)
        while len(unread) > 1:  # the result depends on everything
            write("add", *sorted(unread)[:2])
        write("sum", len(values) - 1)
        compare_gradient(student, tape, inputs)


@check("tapes of thousands of lines, in one pass", points=1, hint=3)
def long_tapes(student: Student, rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((2, 3))
    n = 3000
    chain = [("add", (0, 1)), *(("add", (line + 1, 1)) for line in range(1, n)), ("sum", (n + 1,))]
    want = [np.ones(3), np.full(3, float(n))]
    compare_all(student.gradient(chain, [x, y]), want, ["the gradient of input 0", "the gradient of input 1"], chain)
    doubling = [*(("add", (line, line)) for line in range(60)), ("sum", (60,))]  # 2⁶⁰ ways from the input to the result
    compare_all(student.gradient(doubling, [x]), [np.full(3, 2.0**60)], ["the gradient of 60 doublings"], doubling)
