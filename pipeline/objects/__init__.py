"""DICOM in, DICOM out: the only part of the pipeline that knows pydicom and highdicom."""
