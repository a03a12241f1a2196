"""Faces in videos: detection, tracking from frame to frame, and alignment as 112x112 crops."""
