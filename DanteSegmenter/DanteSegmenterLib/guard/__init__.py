"""Safe display of untrusted texts, and safe replacement of files and folders."""
