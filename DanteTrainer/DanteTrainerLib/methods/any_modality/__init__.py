"""Methods for any subset of modalities: one network, trained with the privileged one absent now and then."""
