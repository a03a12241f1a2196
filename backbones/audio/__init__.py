"""Audio backbones: encoders of sound and their specs."""
