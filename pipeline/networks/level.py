"""The network that reads vertebral levels from two views of the spine."""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

LEVEL_CLASSES: Final = (
    "above", "T8", "T9", "T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5", "S1", "outside",
)  # fmt: skip
"""What a row of a view may belong to; "outside" is anything below S1 and anything not spine."""

SIDE_CHANNELS: Final = 3
FRONT_CHANNELS: Final = 4
_ROWS_MULTIPLE: Final = 16


class _Thin(nn.Module):
    """One convolution with group norm, for the resolutions that cost most."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(8, channels)

    @override
    def forward(self, x: Tensor) -> Tensor:
        return functional.gelu(self.norm(self.convolution(x)))


class _Block(nn.Module):
    """Two convolutions with group norm and a residual connection."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.first_norm = nn.GroupNorm(8, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second_norm = nn.GroupNorm(8, channels)
        self.skip = (
            nn.Identity() if channels_in == channels else nn.Conv2d(channels_in, channels, 1)
        )

    @override
    def forward(self, x: Tensor) -> Tensor:
        y = functional.gelu(self.first_norm(self.first(x)))
        return functional.gelu(self.second_norm(self.second(y)) + self.skip(x))


class _Line(nn.Module):
    """Dilated convolutions along the rows, at the resolution of a quarter."""

    def __init__(self, channels_in: int, channels: int, outputs: int) -> None:
        super().__init__()
        self.enter = nn.Conv1d(channels_in, channels, 1)
        self.layers = nn.ModuleList(
            nn.Conv1d(channels, channels, 3, padding=d, dilation=d) for d in (1, 2, 4)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(8, channels) for _ in range(3))
        self.drop = nn.Dropout(0.2)
        self.leave = nn.Conv1d(channels, outputs, 1)

    @override
    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.enter(x))
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = x + functional.gelu(norm(layer(x)))
        return self.leave(self.drop(x))  # type: ignore[no-any-return]  # modules return Any


class ViewNet(nn.Module):
    """A U-Net whose columns are pooled away for the level of each row.

    Parameters
    ----------
    channels_in : int
    width : int
        Channels at full resolution, a multiple of 16.
    row_step : int
        1 reads every row, 2 halves the rows at the entrance.
    """

    def __init__(self, channels_in: int, width: int, row_step: int) -> None:
        super().__init__()
        widths = [width, width * 3 // 2, width * 2, width * 3, width * 4]
        self.row_step = row_step
        self.stem = nn.Sequential(
            nn.Conv2d(channels_in, width, 3, stride=(row_step, 2), padding=1), nn.GELU()
        )
        self.down = nn.ModuleList(
            _Thin(a, b) if i == 0 else _Block(a, b)
            for i, (a, b) in enumerate(zip([width, *widths[:-1]], widths, strict=True))
        )
        self.up = nn.ModuleList(
            (_Thin if i == 1 else _Block)(widths[i] + widths[i - 1], widths[i - 1])
            for i in range(4, 0, -1)
        )
        self.centre = nn.Conv2d(widths[0], 1, 1)
        self.line = _Line(2 * (widths[2] + widths[4]), 64, len(LEVEL_CLASSES))

    @override
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits of body centres (B, rows, columns / 2) and of levels (B, classes, rows)."""
        rows = x.shape[2]
        x = functional.pad(x, (0, 0, 0, -rows % (_ROWS_MULTIPLE * self.row_step)))
        x = self.stem(x)
        skips = []
        for i, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2) if i else x)
            skips.append(x)
        deepest = skips.pop()
        quarter = deepest
        for i, block in enumerate(self.up):
            skip = skips.pop()
            x = functional.interpolate(x, size=skip.shape[2:], mode="nearest")
            x = block(torch.cat([x, skip], dim=1))
            if i == 1:
                quarter = x
        deepest = functional.interpolate(
            _pooled(deepest), size=quarter.shape[2], mode="linear", align_corners=False
        )
        levels = self.line(torch.cat([_pooled(quarter), deepest], dim=1))
        levels = functional.interpolate(
            levels, scale_factor=4.0 * self.row_step, mode="linear", align_corners=False
        )
        centres = self.centre(x)[:, 0].repeat_interleave(self.row_step, dim=1)
        return centres[:, :rows], levels[:, :, :rows]


class LevelNet(nn.Module):
    """Reads the side view and the front view, each on its own.

    Parameters
    ----------
    width : int
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.side = ViewNet(SIDE_CHANNELS, width, row_step=1)
        self.front = ViewNet(FRONT_CHANNELS, width, row_step=2)

    @override
    def forward(self, side: Tensor, front: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Read the views.

        Parameters
        ----------
        side : Tensor, shape (B, SIDE_CHANNELS, rows, columns)
        front : Tensor, shape (B, FRONT_CHANNELS, rows, columns)

        Returns
        -------
        centres, side_levels, front_levels : Tensor
            Logits: body centres in the side view (B, rows, columns / 2), levels by either view
            (B, classes, rows).
        """
        centres, side_levels = self.side(side)
        _, front_levels = self.front(front)
        return centres, side_levels, front_levels


def side_channels(hu: Tensor) -> Tensor:
    """Windows of the side view: soft tissue, bone, air; hu (..., rows, columns) -> (..., 3, ...).

    Source: widths of common reading windows, scaled to about -1 to 1.
    """
    return torch.stack(
        [_window(hu, -150, 250), _window(hu, 100, 700), _window(hu, -1000, -150)], dim=-3
    )


def front_channels(hu: Tensor) -> Tensor:
    """Windows of the front views, hu (..., 3, rows, columns) -> (..., 4, rows, columns)."""
    back, whole, mean = hu.unbind(dim=-3)
    return torch.stack(
        [
            _window(back, 100, 900),
            _window(whole, 100, 1100),
            _window(mean, -900, -100),
            _window(mean, -250, 200),
        ],
        dim=-3,
    )


def _window(hu: Tensor, lower: float, upper: float) -> Tensor:
    return (hu.clamp(lower, upper) - lower) * (2.0 / (upper - lower)) - 1.0


def _pooled(x: Tensor) -> Tensor:
    """Mean and maximum over the columns, (B, 2 C, rows)."""
    return torch.cat([x.mean(dim=3), x.amax(dim=3)], dim=1)
