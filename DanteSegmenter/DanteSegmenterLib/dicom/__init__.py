"""Read DICOM studies, and write segmentations as DICOM SEG."""
