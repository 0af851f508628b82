"""Methods for any subset of modalities: one network, trained with the privileged one dropped at random."""
