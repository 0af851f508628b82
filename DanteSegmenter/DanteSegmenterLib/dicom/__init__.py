"""DICOM studies read, and segmentations written as DICOM SEG."""
