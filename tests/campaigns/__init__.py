"""Programs that exercise the product as a whole; each has a target of its own."""
