"""What is shown of a video's predictions: rows as CSV and JSON, a picture over time, and the video with them in it."""
