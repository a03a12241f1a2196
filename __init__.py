"""abaw: affect in video, from face crops and sound to per-frame features, and from those to scores.

Two stages with one store between them: `abaw extract` writes per-frame features of faces and sound into a
Zarr store, `abaw train` and `abaw eval` work from that store alone. `abaw.pipeline` holds the same stages
as Python functions. Importing this module loads nothing heavy.
"""

__version__ = "0.1.0"
