"""The report of a run: one HTML file with curves and images."""
