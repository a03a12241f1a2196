"""Decoding of images, video and sound. The only room that opens foreign media files."""
