"""The normal quantile function by correctly rounded operations alone, so that every device gives the same bits.

AS 241, routine PPND7 (Wichura 1988): rational functions of p, and in the tails of sqrt(-ln p). The logarithm is summed
here because library logarithms differ between devices in the last bit.
"""

import math

import torch
from torch import Tensor

_CENTRE = (
    (3.3871327179e0, 5.0434271938e1, 1.5929113202e2, 5.9109374720e1),
    (1.0, 1.7895169469e1, 7.8757757664e1, 6.7187563600e1),
)
_TAIL = ((1.4234372777e0, 2.7568153900e0, 1.3067284816e0, 1.7023821103e-1), (1.0, 7.3700164250e-1, 1.2021132975e-1))


def quantile(p: Tensor) -> Tensor:
    """The x with P(X <= x) = p for a standard normal X, to about 1e-7 relative.

    Args:
        p: float64 (n,), in [1.4e-11, 1 - 1.4e-11]: the range AS 241 covers with its first two regions.

    Returns:
        float64 (n,).
    """
    q = p - 0.5
    r = 0.180625 - q * q
    centre = q * _ratio(_CENTRE, r)
    tail = (-_ln(torch.minimum(p, 1.0 - p))).sqrt() - 1.6
    outside = torch.copysign(_ratio(_TAIL, tail), q)
    return torch.where(q.abs() <= 0.425, centre, outside)


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Tensor) -> Tensor:
    above, below = (_horner(part, x) for part in coefficients)
    return above / below


def _horner(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    total = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total


def _ln(x: Tensor) -> Tensor:
    """ln x = exponent * ln 2 + ln m, m in [0.5, 1), and ln m = ln s + 2 artanh((m - s) / (m + s)), s = sqrt(1/2)."""
    mantissa, exponent = torch.frexp(x)
    s = math.sqrt(0.5)
    z = (mantissa - s) / (mantissa + s)
    series = _horner(tuple(1.0 / (2 * k + 1) for k in range(12)), z * z)  # |z| <= 0.1716: the next term is below 1e-19
    return (exponent.to(x.dtype) - 0.5) * math.log(2.0) + 2.0 * z * series
