"""Decoding of images, video and sound. The only room that opens media files of others."""
