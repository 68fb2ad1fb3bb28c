"""The core under virtual time: the real sequencer, leadership and writer on models of exchange and broker."""
