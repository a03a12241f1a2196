"""Faces in videos: found, followed from frame to frame, and aligned as 112x112 crops."""
