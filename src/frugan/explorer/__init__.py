"""Explorer: a page in the browser over a trained generator, which computes on a local server or in the page itself."""
