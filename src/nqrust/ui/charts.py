"""Line charts of a guest's metrics."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from nicegui import ui

from nqrust.ui import parts
from nqrust.ui.history import Sample

_COLOURS = ("#2b8a73", "#c2862b")
_GREY = "#8a95a3"


class Chart:
    """One or two lines over time. `percent`: a scale of 0 to 100; else KiB per second."""

    def __init__(self, title: str, names: tuple[str, ...], percent: bool = True) -> None:
        self._names = names
        with parts.box("card"):
            with parts.box("row-between"):
                parts.text(title, tag="h2")
                self._now = parts.text("", "muted small")
            self._chart = ui.echart(self._options(percent), renderer="svg").classes("chart")
            self._chart.props(f'role="img" aria-label="{title}"')

    def _options(self, percent: bool) -> dict[str, Any]:
        axis = {"axisLine": {"lineStyle": {"color": _GREY}}, "axisLabel": {"color": _GREY, "fontSize": 11}}
        scale: dict[str, Any] = {"min": 0, "max": 100, "interval": 25} if percent else {"min": 0, "minInterval": 1}
        form = (
            "value => value + ' %'"
            if percent
            else ("value => value >= 1024 ? (value / 1024).toFixed(1) + ' MiB/s' : Math.round(value) + ' KiB/s'")
        )
        return {
            "animation": False,
            "grid": {"left": 4, "right": 10, "top": 10, "bottom": 4, "containLabel": True},
            "tooltip": {"trigger": "axis", ":valueFormatter": form if not percent else "value => value.toFixed(1) + ' %'"},
            "xAxis": {
                "type": "time",
                ":min": "v => v.max - Math.max(v.max - v.min, 300000)",
                "splitLine": {"show": False},
                **axis,
                "splitNumber": 4,
                "axisLabel": {"color": _GREY, "fontSize": 11, "hideOverlap": True, "showMaxLabel": False, "showMinLabel": False},
            },
            "yAxis": {
                "type": "value",
                **scale,
                "splitNumber": 3,
                "splitLine": {"lineStyle": {"color": _GREY, "opacity": 0.18}},
                "axisLabel": {"color": _GREY, "fontSize": 11, ":formatter": form},
            },
            "series": [
                {
                    "name": name,
                    "type": "line",
                    "data": [],
                    "symbol": "circle",
                    "symbolSize": 4,
                    "showSymbol": True,
                    "lineStyle": {"width": 2},
                    "itemStyle": {"color": colour},
                    "areaStyle": {"opacity": 0.10, "color": colour},
                }
                for name, colour in zip(self._names, _COLOURS, strict=False)
            ],
        }

    def show(self, points: list[tuple[float, tuple[float, ...]]], now: str) -> None:
        """`points`: (seconds since the epoch, a value for each line)."""
        self._now.say(now)
        for at, series in enumerate(self._chart.options["series"]):
            series["data"] = [[_iso(moment), round(values[at], 2)] for moment, values in points]
            series["showSymbol"] = len(points) < 30
        self._chart.update()


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).isoformat()


def points(samples: list[Sample], *fields: str, divisor: float = 1) -> list[tuple[float, tuple[float, ...]]]:
    """Return the named fields of samples as chart points."""
    return [(sample.at, tuple(float(getattr(sample, field)) / divisor for field in fields)) for sample in samples]
