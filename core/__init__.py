"""The basics that every other room uses: errors, tasks, progress, clocks, names, files. No torch, zarr or av."""
