"""Extraction on a dask cluster: workers, jobs, and the driver that follows them."""
