"""A run: a directory that holds a configuration, what training wrote so far, and all it takes to go on."""
