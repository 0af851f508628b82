"""Which file is which modality of which patient."""
