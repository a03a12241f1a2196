"""The report of runs: one HTML file, and figures."""
