"""Programs that test the product as a whole; each has a target in the Makefile."""
