"""Ground that every room stands on: errors, tasks, progress, clocks, names, files. Imports no torch, zarr or av."""
