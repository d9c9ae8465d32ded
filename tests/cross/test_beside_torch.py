"""Kernels in a process that PyTorch shares: its threads stay as they were, its data loader's workers may call ours."""

import numpy as np
import pytest

import minitf as mt
from minitf.nn import functional as F

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.cross

X = np.random.default_rng(0).standard_normal((4, 300, 64)).astype(np.float32)


def computed():
    """Something of every kind: rows cut over the pool, products through BLAS, tiles that call BLAS inside."""
    x = F.softmax(X @ np.ones((64, 64), np.float32) / 64)
    return F.scaled_dot_product_attention(x, X, X, causal=True).data


class Samples(torch.utils.data.Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        return computed()


def openmp_threads():
    return torch.get_num_threads(), torch.__config__.parallel_info()


@pytest.mark.parametrize("threads", [1, 3])
def test_openmp_of_torch_keeps_its_number_of_threads(threads):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        report = openmp_threads()
        with mt.config(threads=2):
            ours = computed()
        assert openmp_threads() == report
        x = torch.tensor(X)
        q = torch.softmax(x @ torch.ones(64, 64) / 64, -1)
        theirs = torch.nn.functional.scaled_dot_product_attention(q, x, x, is_causal=True)
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=2e-5, atol=2e-6)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_inside_the_workers_of_a_data_loader(start):
    here = computed()  # the pool's threads are running when the workers start
    loader = torch.utils.data.DataLoader(Samples(), num_workers=2, multiprocessing_context=start, timeout=120)
    samples = list(loader)
    assert len(samples) == 6
    for sample in samples:
        np.testing.assert_array_equal(sample[0].numpy(), here)
