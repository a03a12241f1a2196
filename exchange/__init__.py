"""Features that people already have, into the store and out of it again."""
