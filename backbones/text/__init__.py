"""Text backbones: encoders of transcripts and their specs."""
