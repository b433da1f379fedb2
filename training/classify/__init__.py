"""The classification branch: is the muscle of a slice low, by a published backbone."""
