"""Brings images and labels of other people into a data folder that training reads."""
