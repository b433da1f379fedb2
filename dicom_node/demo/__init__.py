"""A node with everything around it on one machine: scanner, broker, workers, PACS."""
