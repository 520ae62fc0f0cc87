"""Set-up of a working copy: runs before anything is installed, so it uses the standard library alone."""
