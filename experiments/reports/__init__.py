"""Reports: HTML, plots, image grids, the page of a run."""
