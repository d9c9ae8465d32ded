"""Transformations: each alone, nested in every order, and with the closures that confuse naive implementations."""

import numpy as np
import pytest

import minitf as mt
from minitf.autodiff.rules import defvjp
from minitf.autodiff.tensor import Primitive, bind


def rng():
    return np.random.default_rng(0)


def cube(x):
    return mt.sum(x * x * x)


class TestGrad:
    def test_value_and_gradient(self):
        value, gradient = mt.value_and_grad(cube)(np.array([1.0, 2.0]))
        assert value.item() == 9.0
        np.testing.assert_array_equal(gradient.data, [3.0, 12.0])

    def test_argnums_and_aux(self):
        def f(x, y):
            return x * y, {"sum": x + y}

        (gx, gy), aux = mt.grad(f, argnums=(0, -1), has_aux=True)(2.0, 5.0)
        assert (gx.item(), gy.item(), aux["sum"].item()) == (5.0, 2.0, 7.0)

    def test_containers_keep_their_structure(self):
        parameters = {"b": [np.ones(2), (np.zeros(3),)], "a": np.array(2.0), "none": None}

        def f(p):
            return mt.sum(p["b"][0]) * p["a"] + mt.sum(p["b"][1][0])

        gradient = mt.grad(f)(parameters)
        assert list(gradient) == ["b", "a", "none"]
        np.testing.assert_array_equal(gradient["b"][0].data, [2.0, 2.0])
        np.testing.assert_array_equal(gradient["b"][1][0].data, np.ones(3))
        assert gradient["a"].item() == 2.0
        assert gradient["none"] is None

    def test_what_the_output_does_not_depend_on_has_zero_gradient(self):
        gradient = mt.grad(lambda x, y: mt.sum(x), argnums=1)(np.ones(2), np.ones((3, 2)))
        np.testing.assert_array_equal(gradient.data, np.zeros((3, 2)))

    def test_a_leaf_in_the_closure_also_gets_its_gradient(self):
        w = mt.tensor(3.0, requires_grad=True)
        mt.grad(lambda x: w * x * x)(2.0).backward()  # d/dw d/dx w x² = 2x
        assert w.grad.item() == 4.0


class TestNesting:
    def test_grad_of_grad(self):
        third = mt.grad(mt.grad(mt.grad(lambda x: x**4)))
        assert third(2.0).item() == 48.0

    def test_no_perturbation_confusion(self):
        # d/dx [x * d/dy (x + y)] = 1, and not 2
        assert mt.grad(lambda x: x * mt.grad(lambda y: x + y)(1.0))(2.0).item() == 1.0
        assert mt.jvp(lambda x: x * mt.jvp(lambda y: x + y, (1.0,), (1.0,))[1], (2.0,), (1.0,))[1].item() == 1.0
        # d/dx [x * d/dy (x * y)] = 2x
        for inner in (
            lambda x: mt.grad(lambda y: x * y)(1.0),
            lambda x: mt.jvp(lambda y: x * y, (1.0,), (1.0,))[1],
        ):
            assert mt.grad(lambda x, inner=inner: x * inner(x))(3.0).item() == 6.0
            assert mt.jvp(lambda x, inner=inner: x * inner(x), (3.0,), (1.0,))[1].item() == 6.0

    def test_a_value_that_escapes_its_transformation_is_a_constant(self):
        leaked = []
        mt.grad(lambda x: leaked.append(x * x) or x)(3.0)
        assert mt.grad(lambda y: y * leaked[0])(1.0).item() == 9.0

    def test_forward_over_reverse_equals_reverse_over_forward(self):
        x, v = rng().normal(size=(2, 3)), rng().normal(size=(2, 3))

        def f(x):
            return mt.sum(mt.tanh(x @ x.T) ** 3)

        product = mt.hvp(f, (x,), (v,))
        other = mt.grad(lambda x: mt.jvp(f, (x,), (v,))[1])(x)
        reverse = mt.grad(lambda x: mt.sum(mt.grad(f)(x) * v))(x)
        np.testing.assert_allclose(product.data, other.data, rtol=1e-12)
        np.testing.assert_allclose(product.data, reverse.data, rtol=1e-12)

    def test_hvp_of_several_arguments(self):
        x, y = rng().normal(size=3), rng().normal(size=3)
        vx, vy = rng().normal(size=3), rng().normal(size=3)
        hx, hy = mt.hvp(lambda x, y: mt.sum(x * x * y), (x, y), (vx, vy))
        np.testing.assert_allclose(hx.data, 2 * y * vx + 2 * x * vy)
        np.testing.assert_allclose(hy.data, 2 * x * vx)


class TestVjpJvpJacobian:
    def test_the_pullback_can_be_called_again(self):
        out, pullback = mt.vjp(lambda x: x * x, np.array([1.0, 2.0]))
        np.testing.assert_array_equal(out.data, [1.0, 4.0])
        for scale in (1.0, 2.0):
            np.testing.assert_array_equal(pullback(np.full(2, scale))[0].data, [2 * scale, 4 * scale])

    def test_many_outputs(self):
        out, pullback = mt.vjp(lambda x: {"s": mt.sum(x), "p": x * 2}, np.ones(2))
        gradient = pullback({"s": np.array(3.0), "p": np.array([1.0, 0.0])})[0]
        assert out["s"].item() == 2.0
        np.testing.assert_array_equal(gradient.data, [5.0, 3.0])

    def test_jacobian_modes_agree_with_the_matrix(self):
        A, x = rng().normal(size=(3, 4)), rng().normal(size=4)
        for mode in ("reverse", "forward"):
            np.testing.assert_allclose(mt.jacobian(lambda x: mt.tensor(A) @ x, mode=mode)(x).data, A)
        hessian = mt.jacobian(mt.grad(cube))(x)
        np.testing.assert_allclose(hessian.data, np.diag(6 * x))

    def test_jacobian_of_matrices_has_output_then_input_axes(self):
        x = rng().normal(size=(2, 3))
        J = mt.jacobian(lambda x: mt.sum(x, axis=1))(x)
        assert J.shape == (2, 2, 3)
        np.testing.assert_array_equal(J.data, np.eye(2)[:, :, None] * np.ones(3))

    def test_complex_convention(self):
        # L = |z|²: the gradient is dL/d(re) + i dL/d(im) = 2 z
        z = np.array([1.0 + 2.0j, -3.0j])
        gradient = mt.grad(lambda z: mt.sum(mt.real(z * mt.conj(z))))(z)
        np.testing.assert_allclose(gradient.data, 2 * z)


class TestStopGradient:
    def test_blocks_every_level(self):
        assert mt.grad(lambda x: x * mt.stop_gradient(x))(3.0).item() == 3.0
        assert mt.grad(mt.grad(lambda x: x * x * mt.stop_gradient(x)))(3.0).item() == 6.0
        assert mt.stop_gradient({"a": mt.tensor(1.0, requires_grad=True)})["a"].requires_grad is False


class TestCheckpoint:
    @staticmethod
    def f(x, w):
        return mt.sin(x * w) * x

    def test_same_gradients_also_nested_and_of_closures(self):
        w = mt.tensor(1.3, requires_grad=True)

        def loss(x, wrap):
            g = wrap(lambda x: self.f(x, w))
            return g(g(x))

        gradients = []
        for wrap in (lambda f: f, mt.checkpoint, lambda f: mt.checkpoint(mt.checkpoint(f))):
            w.grad = None
            gx = mt.grad(lambda x, wrap=wrap: loss(x, wrap))(0.7)
            loss(mt.tensor(0.7), wrap).backward()
            gradients.append((gx.item(), w.grad.item()))
        assert gradients[0] == pytest.approx(gradients[1], rel=1e-15)
        assert gradients[0] == pytest.approx(gradients[2], rel=1e-15)

    def test_derivatives_of_any_order_and_in_forward_mode(self):
        def f(x):
            return mt.sin(x) * x

        g = mt.checkpoint(f)
        assert mt.grad(mt.grad(g))(1.0).item() == pytest.approx(mt.grad(mt.grad(f))(1.0).item(), rel=1e-15)
        assert mt.jvp(mt.grad(g), (1.0,), (1.0,))[1].item() == pytest.approx(mt.grad(mt.grad(f))(1.0).item())
        assert mt.grad(mt.checkpoint(mt.grad(g)))(1.0).item() == pytest.approx(mt.grad(mt.grad(f))(1.0).item())

    def test_runs_again_only_in_the_backward_sweep_and_repeats_draws(self):
        from minitf.autodiff.transform import repeatable

        calls, draws = [], []
        generator = np.random.default_rng(5)

        @mt.checkpoint
        def noisy(x):
            calls.append(1)
            draws.append(repeatable(generator).normal(size=3))
            return mt.sum(x * draws[-1])

        x = mt.tensor(np.ones(3), requires_grad=True)
        y = noisy(x)
        assert len(calls) == 1
        after = generator.bit_generator.state
        y.backward()
        assert len(calls) == 2
        np.testing.assert_array_equal(draws[0], draws[1])
        np.testing.assert_array_equal(x.grad.data, draws[0])
        assert generator.bit_generator.state == after

    def test_several_outputs_and_untouched_ones(self):
        x = mt.tensor(2.0, requires_grad=True)
        a, b, c = mt.checkpoint(lambda x: (x * x, [x + 1.0], 7))(x)
        (a + 3.0 * b[0]).backward()
        assert (x.grad.item(), c) == (7.0, 7)


class TestCustomVjp:
    def test_the_rule_replaces_the_derivative(self):
        @mt.custom_vjp
        def rounded(x):
            return mt.round(x)

        rounded.defvjp(lambda x: (mt.round(x), None), lambda _, g: (g * 2.0,))
        assert rounded(1.6).item() == 2.0
        assert mt.grad(lambda x: rounded(x) * x)(1.6).item() == pytest.approx(2.0 + 2 * 1.6)

    def test_residuals_scalars_and_none(self):
        @mt.custom_vjp
        def clipped(x, bound):
            return x

        clipped.defvjp(lambda x, bound: (x, bound), lambda bound, g: (mt.clip(g, -bound, bound), None))
        assert mt.grad(lambda x: 10.0 * clipped(x, 2.0))(1.0).item() == 2.0

    def test_many_outputs_and_second_order(self):
        @mt.custom_vjp
        def pair(x):
            return mt.sin(x), mt.cos(x)

        pair.defvjp(lambda x: (pair.function(x), x), lambda x, g: (g[0] * mt.cos(x) - g[1] * mt.sin(x),))

        def f(x):
            s, c = pair(x)
            return s * c

        def plain(x):
            return mt.sin(x) * mt.cos(x)

        assert mt.grad(f)(0.4).item() == pytest.approx(mt.grad(plain)(0.4).item(), rel=1e-15)
        assert mt.grad(mt.grad(f))(0.4).item() == pytest.approx(mt.grad(mt.grad(plain))(0.4).item(), rel=1e-14)


class TestCheckGrads:
    def test_accepts_right_rules_and_names_the_wrong_one(self):
        mt.check_grads(lambda x, y: mt.sum(mt.exp(x) * y, axis=0), rng().normal(size=(2, 3)), rng().normal(size=3))

        @mt.custom_vjp
        def wrong(x):
            return x * x

        wrong.defvjp(lambda x: (x * x, x), lambda x, g: (g * x * 2.001,))
        with pytest.raises(AssertionError, match=r"vjp is .* central difference"):
            mt.check_grads(wrong, rng().normal(size=3), modes=("vjp",), order=1)

    def test_finds_a_mistake_of_second_order_only(self):
        @mt.custom_vjp
        def wrong(x):
            return mt.sin(x)

        wrong.defvjp(lambda x: (mt.sin(x), x), lambda x, g: (g * mt.stop_gradient(mt.cos(x)),))
        mt.check_grads(wrong, rng().normal(size=3), modes=("vjp",), order=1)
        with pytest.raises(AssertionError, match="vjp -> "):
            mt.check_grads(wrong, rng().normal(size=3), modes=("vjp",), order=2)

    def test_a_gradient_has_the_shape_of_its_argument(self):
        product = Primitive("product", np.multiply)
        defvjp(product, lambda g, out, x, y: g * y, lambda g, out, x, y: g * x)
        with pytest.raises(
            AssertionError, match=r"vjp of argument 1 is float64 \(2, 3\), the argument is float64 \(3,\)"
        ):
            mt.check_grads(lambda x, y: bind(product, x, y), np.ones((2, 3)), np.ones(3), modes=("vjp",), order=1)

    def test_integer_arguments_are_held_fixed(self):
        mt.check_grads(lambda x, i: x[i], rng().normal(size=5), np.array([0, 0, 3]))


class TestImport:
    def test_is_light(self):
        import subprocess
        import sys

        code = (
            "import sys, minitf; heavy = {'numba', 'scipy', 'matplotlib', 'torch', 'jax'} & set(sys.modules);"
            "assert not heavy, heavy"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
