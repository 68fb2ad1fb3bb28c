"""The pure core: no event loop, no clock, no I/O. Every value that changes comes in as an argument."""
