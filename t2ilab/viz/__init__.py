"""Image grids, plots, and panels with sliders, in a notebook or as PNG files: one import for the lessons."""
from .notebook import Panel, film_strip, panel, progress, show, show_grid, show_photographs
from .plots import bars, heatmap, lines, plot_bars, plot_lines, plot_points, points
from .tiles import beside, few_colours, grid, strip

__all__ = ["Panel", "bars", "beside", "few_colours", "film_strip", "grid", "heatmap", "lines", "panel",
           "plot_bars", "plot_lines", "plot_points", "points", "progress", "show", "show_grid",
           "show_photographs", "strip"]
