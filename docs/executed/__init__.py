"""Every command that the documentation shows is executed: by a test, or where that takes too long by `make docs`."""
