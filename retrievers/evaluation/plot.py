"""A plot of a comparison, as SVG without any library: a panel for each collection, a line for each mode."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from retrievers.evaluation.comparison import Standing

ROW = 18
PANEL = 190
LEFT = 150
TOP = 40
GAP = 24
INK, FAINT, MARKED = "#1a1a1a", "#d0d0d0", "#b3261e"


def plot(standings: Sequence[Standing], metric: str, baseline: str | None = None) -> str:
    """Means as dots and 95 % intervals as lines; the dashed line is the baseline's mean.

    A dot is red where the difference from the baseline is significant (p < 0.05).
    """
    datasets = list(dict.fromkeys(item.dataset for item in standings))
    modes = list(dict.fromkeys(item.mode for item in standings))
    width = LEFT + len(datasets) * (PANEL + GAP)
    height = TOP + ROW * len(modes) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(8, 16, metric, weight="bold"),
        *(_text(LEFT - 10, _y(row) + 4, mode, anchor="end") for row, mode in enumerate(modes)),
    ]
    for number, dataset in enumerate(datasets):
        own = [item for item in standings if item.dataset == dataset]
        parts += _panel(own, modes, LEFT + number * (PANEL + GAP), baseline)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(
    standings: Sequence[Standing], modes: Sequence[str], left: float, baseline: str | None
) -> list[str]:
    low, high = min(item.low for item in standings), max(item.high for item in standings)
    span = (high - low) or 1.0
    bottom = _y(len(modes)) - ROW / 2

    def x(value: float) -> float:
        return left + (value - low) / span * PANEL

    parts = [
        _text(left, TOP - 12, standings[0].dataset, weight="bold"),
        _line(left, bottom, left + PANEL, bottom, FAINT),
        _text(left, bottom + 14, f"{low:.3f}"),
        _text(left + PANEL, bottom + 14, f"{high:.3f}", anchor="end"),
    ]
    for item in standings:
        y = _y(modes.index(item.mode))
        if item.mode == baseline:
            parts.append(_line(x(item.value), TOP - 4, x(item.value), bottom, FAINT, dashed=True))
        significant = item.versus is not None and item.versus.p_value < 0.05
        color = MARKED if significant else INK
        parts += [
            _line(x(item.low), y, x(item.high), y, color),
            f'<circle cx="{x(item.value):.1f}" cy="{y:.1f}" r="3.5" fill="{color}">'
            f"<title>{escape(item.mode)}: {item.value:.4f}</title></circle>",
        ]
    return parts


def _y(row: int) -> float:
    return TOP + ROW * (row + 0.5)


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="{INK}">'
        f"{escape(text)}</text>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, color: str, *, dashed: bool = False) -> str:
    dashes = ' stroke-dasharray="4 3"' if dashed else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}"{dashes}/>'
