"""Make weights for ``pipeline``, with its own preprocessing and network code."""
