"""How alike images are: the numbers of ``minitf.nn.image_losses``, where they can be differentiated."""

from __future__ import annotations

from minitf.autodiff.tensor import ArrayLike
from minitf.nn import image_losses


def psnr(image: ArrayLike, reference: ArrayLike, *, peak: float = 1.0) -> float:
    """The peak signal-to-noise ratio in dB, averaged over images ``(*, C, Y, X)``; inf for equal ones.

    peak: the largest possible value, 1 or 255.
    """
    return image_losses.psnr(image, reference, peak=peak).item()


def ssim(image: ArrayLike, reference: ArrayLike, *, peak: float = 1.0, window: int = 11, sigma: float = 1.5) -> float:
    """The mean structural similarity of images ``(*, C, Y, X)``, between -1 and 1.

    peak: the largest possible value, 1 or 255. window, sigma: size and standard deviation of the Gaussian window.
    """
    return image_losses.ssim(image, reference, peak=peak, window=window, sigma=sigma).item()
