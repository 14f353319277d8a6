"""Feature networks: frozen, they turn images into vectors in which distances mean something."""
