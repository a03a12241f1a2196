"""Names of the files in the folder of a run."""

BEST, LAST, CONFIG = "best.safetensors", "last.safetensors", "config.json"
