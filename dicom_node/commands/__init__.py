"""The commands of ``psoas``, one module for each group of them."""
