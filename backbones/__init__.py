"""Networks that turn images and sound into features: specs, registry, weights."""
