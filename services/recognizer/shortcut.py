"""The 1×1 convolution beside a block whose shape changes."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

CHANNELS = 16
"""Numbers in a vector of AVX-512, which oneDNN's kernels count channels in."""


class Shortcut(nn.Conv2d):
    """(N, channels, H, W) → (N, out, H/stride, W/stride), without bias.

    With fewer input channels than a vector holds, pixels are left out first and
    then convolved, which is the same sum. With its own stride the gradient of
    the weights crashes there, or is silently another: oneDNN "writes past the
    rtus workspace (nhwc, IC < ic_block)", as its tracker has it.
    """

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__(channels, out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        step = self.stride[0]
        if step == 1 or self.in_channels >= CHANNELS:
            return super().forward(x)
        return functional.conv2d(x[:, :, ::step, ::step], self.weight)
