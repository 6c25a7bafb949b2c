"""Measured intervals in a file: written while they are measured, read and attributed anew later."""
