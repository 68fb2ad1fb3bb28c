"""Tools of the repository: locks, packages, images. They need nothing but Python unless they say so."""
