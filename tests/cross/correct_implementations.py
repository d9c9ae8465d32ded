"""Correct implementations in PyTorch and JAX, as different as people write them, of what the oracle knows by name.

``CORRECT[name]`` is a list of (label, framework, function, profile). Arithmetic is in float32 (float64 for float64), except
where the label says eager, and what a function returns is in the dtype of its inputs, as its case wants it.
"""

import functools
import math

import jax
import jax.numpy as jnp
import torch
import torch.nn.functional as F

CORRECT = {}


def correct(name, label, fn, profile="stored"):
    """Registers an implementation; what it returns is cast to the dtype of its first argument."""

    @functools.wraps(fn)
    def cast(*arrays, **options):
        def one(x):
            if isinstance(x, torch.Tensor):
                return x.to(arrays[0].dtype) if x.is_floating_point() else x
            return x.astype(arrays[0].dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

        out = fn(*arrays, **options)
        return tuple(map(one, out)) if isinstance(out, tuple) else one(out)

    CORRECT.setdefault(name, []).append((label, "jax" if "JAX" in label else "torch", cast, profile))


def wide(*xs):
    """In the dtype of arithmetic."""
    if isinstance(xs[0], torch.Tensor):
        found = [x if x.dtype == torch.float64 else x.float() for x in xs]
    else:
        found = [x if x.dtype == jnp.float64 else x.astype(jnp.float32) for x in xs]
    return found if len(found) > 1 else found[0]


# -- attention: q (B, H, T, E), k and v (B, K, S, E) ---------------------------------------------------------------------


def allowed_keys(q, k, causal, mask):
    """(*, T, S) booleans, or None."""
    T, S = q.shape[-2], k.shape[-2]
    band = None
    if causal:
        torches = isinstance(q, torch.Tensor)
        band = torch.ones(T, S, dtype=torch.bool).tril(S - T) if torches else jnp.tri(T, S, S - T, dtype=bool)
    return band if mask is None else mask if band is None else mask & band


def heads(q, *xs):
    return [x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in xs]


def attention(q, k, v, *, causal=False, mask=None, base=math.e):
    """With the weights rounded to the dtype of v before the second product, as kernels do."""
    k, v = heads(q, k, v)
    allowed = allowed_keys(q, k, causal, mask)
    unit = 1.0 if base == math.e else math.log2(math.e)
    z = (wide(q) * (unit * q.shape[-1] ** -0.5)) @ wide(k).mT
    if allowed is not None:
        z = z.masked_fill(~allowed, -torch.inf)
    top = z.amax(-1, keepdim=True).detach()
    top = torch.where(top.isfinite(), top, 0.0)
    e = torch.exp(z - top) if base == math.e else torch.exp2(z - top)
    total = e.sum(-1, keepdim=True)
    return (e / torch.where(total == 0, 1.0, total)).to(v.dtype) @ v


def attention_in_base_2(q, k, v, **options):
    return attention(q, k, v, base=2, **options)


def eager_attention(q, k, v, *, causal=False, mask=None):
    """Every intermediate result in the dtype of the inputs."""
    k, v = heads(q, k, v)
    allowed = allowed_keys(q, k, causal, mask)
    z = q @ k.mT * q.shape[-1] ** -0.5
    if allowed is None:
        return z.softmax(-1) @ v
    return (z.masked_fill(~allowed, torch.finfo(z.dtype).min).softmax(-1) * allowed) @ v


def attention_with_permuted_keys(q, k, v, *, causal=False, mask=None):
    order = torch.randperm(k.shape[-2], generator=torch.Generator().manual_seed(0))
    allowed = allowed_keys(q, k, causal, mask)
    return attention(q, k[..., order, :], v[..., order, :], mask=None if allowed is None else allowed[..., order])


def sdpa(q, k, v, *, causal=False, mask=None):
    k, v = heads(q, k, v)
    if causal and mask is None and q.shape[-2] == k.shape[-2]:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed_keys(q, k, causal, mask))


def rounded(x, dtype):
    """The values of ``x`` in ``dtype``, and its gradient as it is: kernels keep that in registers."""
    return x + (wide(x.to(dtype)) - x).detach()


def partial_sums(q, k, v, allowed):
    """Over some of the keys: the numerator and the denominator relative to the largest logit, and that."""
    z = (wide(q) * q.shape[-1] ** -0.5) @ wide(k).mT
    if allowed is not None:
        z = z.masked_fill(~allowed, -torch.inf)
    top = z.amax(-1, keepdim=True).detach()
    e = torch.exp(z - torch.where(top.isfinite(), top, 0.0))
    return rounded(e, v.dtype) @ wide(v), e.sum(-1, keepdim=True), top


def tiled_attention(q, k, v, *, causal=False, mask=None, tile=5):
    """An online softmax over tiles of keys; what is multiplied with v is not normalized."""
    k, v = heads(q, k, v)
    allowed = allowed_keys(q, k, causal, mask)
    out, total, top = 0.0, 0.0, torch.full((*q.shape[:-1], 1), -torch.inf, dtype=wide(q).dtype)
    for start in range(0, k.shape[-2], tile):
        keys = slice(start, start + tile)
        new, sums, high = partial_sums(
            q, k[..., keys, :], v[..., keys, :], None if allowed is None else allowed[..., keys]
        )
        highest = torch.maximum(top, high)
        safe = torch.where(highest.isfinite(), highest, 0.0)
        before, now = torch.exp(top - safe), torch.exp(high - safe)
        out, total, top = out * before + new * now, total * before + sums * now, highest
    return out / torch.where(total == 0, 1.0, total)


def split_attention(q, k, v, **options):
    """Two halves of the keys, joined at the end."""
    return tiled_attention(q, k, v, tile=(k.shape[-2] + 1) // 2, **options)


def jax_attention(q, k, v, *, causal=False, mask=None):
    k, v = (jnp.repeat(x, q.shape[1] // x.shape[1], 1) for x in (k, v))
    allowed = allowed_keys(q, k, causal, mask)
    z = jnp.einsum("bhte,bhse->bhts", wide(q), wide(k)) * q.shape[-1] ** -0.5
    z = z if allowed is None else jnp.where(allowed, z, -jnp.inf)
    top = jax.lax.stop_gradient(z.max(-1, keepdims=True))
    e = jnp.exp(z - jnp.where(jnp.isfinite(top), top, 0.0))
    total = e.sum(-1, keepdims=True)
    p = (e / jnp.where(total == 0, 1.0, total)).astype(v.dtype)
    return jnp.einsum("bhts,bhse->bhte", wide(p), wide(v))


ATTENTIONS = {
    "PyTorch": attention,
    "PyTorch, exp2": attention_in_base_2,
    "PyTorch, keys permuted": attention_with_permuted_keys,
    "PyTorch, tiles of 5": tiled_attention,
    "PyTorch, split keys": split_attention,
    "PyTorch SDPA": sdpa,
    "JAX": jax_attention,
}
for label, fn in ATTENTIONS.items():
    correct("attention.dot_product", label, fn)
correct("attention.dot_product", "PyTorch, eager", eager_attention, "eager")


def differential(attend):
    def difference(q1, k1, q2, k2, v, *, lambda_, **options):
        return attend(q1, k1, v, **options) - lambda_ * attend(q2, k2, v, **options)

    return difference


def differential_of_maps(q1, k1, q2, k2, v, *, lambda_, causal=False, mask=None):
    """One product with v: the difference is between the maps."""
    k1, k2, v = heads(q1, k1, k2, v)
    unit = torch.eye(k1.shape[-2], dtype=wide(v).dtype).expand(*k1.shape[:-1], -1)
    maps = [attention(*wide(q, k, unit), causal=causal, mask=mask) for q, k in ((q1, k1), (q2, k2))]
    return (maps[0] - lambda_ * maps[1]).to(v.dtype) @ v


for label in ("PyTorch, tiles of 5", "PyTorch, split keys"):
    correct("attention.differential", label, differential(ATTENTIONS[label]))
correct("attention.differential", "PyTorch", differential_of_maps)
correct("attention.differential", "JAX", differential(jax_attention))
correct("attention.differential", "PyTorch, eager", differential(eager_attention), "eager")


# -- recurrences: a loop with its state in the dtype of arithmetic, and a scan in another order ----------------------------


def combine(left, right):
    return left[0] * right[0], right[0] * left[1] + right[1]


def gated_loop(a, b, state, *, reverse=False):
    (a, b, h), T = wide(a, b, state), a.shape[1]
    out = [None] * T
    for t in reversed(range(T)) if reverse else range(T):
        h = out[t] = a[:, t] * h + b[:, t]
    return torch.stack(out, 1), h


def gated_doubling(a, b, state, *, reverse=False):
    """All prefixes in log2(T) rounds."""
    a, b, h = wide(a, b, state)
    if reverse:
        a, b = a.flip(1), b.flip(1)
    step = 1
    while step < a.shape[1]:
        late = combine((a[:, :-step], b[:, :-step]), (a[:, step:], b[:, step:]))
        a, b = (torch.cat([x[:, :step], y], 1) for x, y in zip((a, b), late, strict=True))
        step *= 2
    out = a * h[:, None] + b
    last = out[:, -1]
    return (out.flip(1) if reverse else out), last


def gated_jax(a, b, state, *, reverse=False):
    a, b, h = wide(a, b, state)
    a, b = (x[:, ::-1] if reverse else x for x in (a, b))
    a, b = jax.lax.associative_scan(combine, (a, b), axis=1)
    out = a * h[:, None] + b
    return (out[:, ::-1] if reverse else out), out[:, -1]


correct("recurrent.gated_linear_recurrence", "PyTorch, a loop", gated_loop)
correct("recurrent.gated_linear_recurrence", "PyTorch, doubling", gated_doubling)
correct("recurrent.gated_linear_recurrence", "JAX, associative scan", gated_jax)


def selective_loop(u, dt, A, B, C, D, state):
    u, dt, A, B, C, D, h = wide(u, dt, A, B, C, D, state)
    out = []
    for t in range(u.shape[1]):
        step = dt[:, t, :, None]
        h = torch.exp(step * A) * h + step * B[:, t, None] * u[:, t, :, None]
        out.append((h * C[:, t, None]).sum(-1) + D * u[:, t])
    return torch.stack(out, 1), h


def selective_at_once(u, dt, A, B, C, D, state):
    """The decays from running sums of the steps, then every pair of positions."""
    u, dt, A, B, C, D, h = wide(u, dt, A, B, C, D, state)
    T = u.shape[1]
    sums = (dt[..., None] * A).cumsum(1)
    later = torch.ones(T, T, dtype=torch.bool).tril()[None, :, :, None, None]
    decay = torch.exp((sums[:, :, None] - sums[:, None]).masked_fill(~later, -torch.inf))
    states = torch.einsum("btspn,bsp,bsn->btpn", decay, dt * u, B) + torch.exp(sums) * h[:, None]
    return torch.einsum("btpn,btn->btp", states, C) + D * u, states[:, -1]


def selective_jax(u, dt, A, B, C, D, state):
    u, dt, A, B, C, D, h = wide(u, dt, A, B, C, D, state)
    decay = jnp.exp(dt[..., None] * A)
    a, b = jax.lax.associative_scan(combine, (decay, (dt * u)[..., None] * B[:, :, None]), axis=1)
    states = a * h[:, None] + b
    return jnp.einsum("btpn,btn->btp", states, C) + D * u, states[:, -1]


correct("recurrent.selective_scan", "PyTorch, a loop", selective_loop)
correct("recurrent.selective_scan", "PyTorch, all pairs", selective_at_once)
correct("recurrent.selective_scan", "JAX, associative scan", selective_jax)


def wkv4_loop(k, v, w, u):
    k, v, w, u = wide(k, v, w, u)
    a = b = torch.zeros_like(k[:, 0])
    p, out = torch.full_like(a, -1e38), []
    for t in range(k.shape[1]):
        q = torch.maximum(p, u + k[:, t])
        old, new = torch.exp(p - q), torch.exp(u + k[:, t] - q)
        out.append((old * a + new * v[:, t]) / (old * b + new))
        q = torch.maximum(p - w, k[:, t])
        old, new = torch.exp(p - w - q), torch.exp(k[:, t] - q)
        a, b, p = old * a + new * v[:, t], old * b + new, q
    return torch.stack(out, 1)


def wkv4_exponents(k, w, u, where, arange, infinity):
    """(B, T, S, C): the logarithms of the weights."""
    T = k.shape[1]
    distance = (arange(T)[:, None] - arange(T))[None, :, :, None]
    past = where(distance > 0, k[:, None] - (distance - 1) * w, -infinity)
    return where(distance == 0, k[:, None] + u, past)


def wkv4_matrix(k, v, w, u):
    k, v, w, u = wide(k, v, w, u)
    p = wkv4_exponents(k, w, u, torch.where, torch.arange, torch.inf).softmax(2)
    return torch.einsum("btsc,bsc->btc", p, v)


def wkv4_jax(k, v, w, u):
    k, v, w, u = wide(k, v, w, u)
    p = jax.nn.softmax(wkv4_exponents(k, w, u, jnp.where, jnp.arange, jnp.inf), 2)
    return jnp.einsum("btsc,bsc->btc", p, v)


correct("recurrent.wkv4", "PyTorch, a loop", wkv4_loop)
correct("recurrent.wkv4", "PyTorch, a matrix", wkv4_matrix)
correct("recurrent.wkv4", "JAX, a matrix", wkv4_jax)


def wkv6_loop(r, k, v, w, u, state):
    r, k, v, w, u, S = wide(r, k, v, w, u, state)
    out = []
    for t in range(r.shape[2]):
        kv = k[:, :, t, :, None] * v[:, :, t, None]
        out.append((r[:, :, t, None] @ (S + u[:, :, None] * kv))[:, :, 0])
        S = w[:, :, t, :, None] * S + kv
    return torch.stack(out, 2), S


def wkv6_jax(r, k, v, w, u, state):
    r, k, v, w, u, S = wide(r, k, v, w, u, state)

    def step(S, now):
        r, k, v, w = now
        kv = k[..., :, None] * v[..., None, :]
        return w[..., None] * S + kv, jnp.einsum("bhe,bhem->bhm", r, S + u[:, :, None] * kv)

    S, out = jax.lax.scan(step, S, tuple(jnp.moveaxis(x, 2, 0) for x in (r, k, v, w)))
    return jnp.moveaxis(out, 0, 2), S


correct("recurrent.wkv6", "PyTorch, a loop", wkv6_loop)
correct("recurrent.wkv6", "JAX, a scan", wkv6_jax)


# -- experts -------------------------------------------------------------------------------------------------------------


def experts_in_turn(x, router, w_up, w_down, w_gate, *, k=2, normalize=True):
    kind = x.dtype
    p = (wide(x) @ wide(router)).to(kind)
    p = wide(p).softmax(-1)
    weights, chosen = p.topk(k, -1)
    weights = (weights / weights.sum(-1, keepdim=True) if normalize else weights).to(kind)
    out = torch.zeros(x.shape, dtype=wide(x).dtype)
    for e in range(router.shape[1]):
        rows, places = torch.nonzero(chosen == e, as_tuple=True)
        hidden = (F.silu(wide(x[rows]) @ wide(w_gate[e])) * (wide(x[rows]) @ wide(w_up[e]))).to(kind)
        y = (wide(hidden) @ wide(w_down[e])).to(kind)
        out = out.index_add(0, rows, wide(y) * wide(weights[rows, places])[:, None])
    return out, chosen


def experts_at_once(x, router, w_up, w_down, w_gate, *, k=2, normalize=True):
    """JAX: every token through every expert, and zero weights."""
    kind = x.dtype
    z = wide((wide(x) @ wide(router)).astype(kind))
    chosen = jax.lax.top_k(z, k)[1]
    p = jnp.take_along_axis(jax.nn.softmax(z, -1), chosen, -1)
    p = (p / p.sum(-1, keepdims=True) if normalize else p).astype(kind)
    full = jnp.zeros(z.shape, kind).at[jnp.arange(len(x))[:, None], chosen].set(p)
    up, gate = (jnp.einsum("nd,edf->nef", wide(x), wide(w)) for w in (w_up, w_gate))
    y = jnp.einsum("nef,efd->ned", wide((jax.nn.silu(gate) * up).astype(kind)), wide(w_down)).astype(kind)
    return jnp.einsum("ned,ne->nd", wide(y), wide(full)), chosen


correct("feedforward.mixture_of_experts", "PyTorch, expert by expert", experts_in_turn)
correct("feedforward.mixture_of_experts", "JAX, all experts", experts_at_once)


# -- attention in columns --------------------------------------------------------------------------------------------------


def columns(X, U_q, U_k, *, causal=False):
    q, k = (wide(U) @ wide(X) for U in (U_q, U_k))
    e = k.mT @ q if isinstance(X, torch.Tensor) else k.swapaxes(-1, -2) @ q
    N = e.shape[-1]
    if isinstance(X, torch.Tensor):
        e = e.masked_fill(~torch.ones(N, N, dtype=torch.bool).triu(), -torch.inf) if causal else e
        return e.softmax(-2)
    return jax.nn.softmax(jnp.where(~jnp.tri(N, N, -1, dtype=bool), e, -jnp.inf) if causal else e, -2)


def multi_head(X, A, W_val, W_out):
    """The values of a head are stored, the heads are summed by one product."""
    heard = wide(W_val) @ wide(X)[..., None, :, :] @ wide(A)
    return (wide(W_out) @ heard).sum(-3)


correct("models.mathematical.attention_columns", "PyTorch", columns)
correct("models.mathematical.attention_columns", "JAX", columns)
correct("models.mathematical.multi_head_columns", "PyTorch", multi_head)
correct("models.mathematical.multi_head_columns", "JAX", multi_head)
