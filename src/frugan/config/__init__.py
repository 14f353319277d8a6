"""A run's whole configuration: presets, options, methods, and how the rest is derived and explained."""
