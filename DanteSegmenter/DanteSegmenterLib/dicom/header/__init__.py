"""Read DICOM headers."""
