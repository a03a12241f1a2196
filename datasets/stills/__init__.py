"""Sets of labelled still images: their layouts, recognised by their files."""
