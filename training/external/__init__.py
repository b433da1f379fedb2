"""External validation: the node's own measurement against masks that others drew."""
