"""Bring CT series in over DICOM, take results out; know nothing about muscles."""

__version__ = "0.1.0"
