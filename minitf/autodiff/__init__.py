"""Automatic differentiation on NumPy arrays: Tensors, primitives with rule tables, transformations, interpreters."""

from minitf.autodiff import methods as _methods  # attaches the operators
from minitf.autodiff.check import check_grads
from minitf.autodiff.checked import checked
from minitf.autodiff.config import config
from minitf.autodiff.cost import cost
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.broadcast import astype, broadcast_to, conj, imag, real, reshape, sum, unbroadcast
from minitf.autodiff.ops.contract import dot, einsum, matmul, outer, tensordot
from minitf.autodiff.ops.create import arange, eye, full, linspace, ones, ones_like, zeros, zeros_like
from minitf.autodiff.ops.elementwise import (
    abs,
    add,
    arccos,
    arcsin,
    arctan,
    bitwise_and,
    bitwise_or,
    bitwise_xor,
    ceil,
    clip,
    cos,
    cosh,
    divide,
    equal,
    erf,
    exp,
    exp2,
    expm1,
    floor,
    floor_divide,
    greater,
    greater_equal,
    invert,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    log,
    log1p,
    log2,
    log10,
    logaddexp,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    maximum,
    minimum,
    mod,
    multiply,
    negative,
    not_equal,
    power,
    reciprocal,
    round,
    rsqrt,
    sigmoid,
    sign,
    sin,
    sinh,
    softplus,
    sqrt,
    square,
    straight_through,
    subtract,
    tan,
    tanh,
    where,
)
from minitf.autodiff.ops.index import index_add, index_put, put_along_axis, take, take_along_axis
from minitf.autodiff.ops.order import argsort, sort, top_k
from minitf.autodiff.ops.reduce import (
    all,
    any,
    argmax,
    argmin,
    cumprod,
    cumsum,
    logsumexp,
    max,
    mean,
    min,
    prod,
    std,
    var,
)
from minitf.autodiff.ops.shape import (
    concatenate,
    diag,
    diagonal,
    expand_dims,
    flip,
    moveaxis,
    pad,
    ravel,
    repeat,
    roll,
    split,
    squeeze,
    stack,
    swapaxes,
    tile,
    trace,
    transpose,
    tril,
    triu,
)
from minitf.autodiff.precision import precision, store
from minitf.autodiff.tensor import Tensor, as_tensor, no_grad, tensor
from minitf.autodiff.transform import (
    checkpoint,
    custom_vjp,
    grad,
    hvp,
    jacobian,
    jvp,
    stop_gradient,
    value_and_grad,
    vjp,
)
from minitf.autodiff.tree import tree_flatten, tree_leaves, tree_map
