"""What a segmentation says: regions, volumes, how sure."""
