"""Features of frames and sound: backbones, and the runner that fills the store."""
