"""Sources of images: a folder, a zip, a tar, an array file. Everything else sees a `Source`."""
