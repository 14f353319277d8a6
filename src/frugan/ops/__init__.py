"""Tensor operations that PyTorch lacks, in stock PyTorch: twice differentiable on every device, with no build step."""
