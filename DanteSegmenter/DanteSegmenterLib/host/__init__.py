"""Computing on a remote host: its address, connecting by ssh, error messages, and its model cache."""
