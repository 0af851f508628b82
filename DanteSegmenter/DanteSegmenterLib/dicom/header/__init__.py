"""What is read of a DICOM file before its pixels."""
