"""Dataset folders -> prepared cases -> training patches."""
