"""Audio backbones: sound, the video's clock, and the encoders with their specs."""
