"""Find out which file is which modality of which patient."""
