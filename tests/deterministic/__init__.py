"""The core under virtual time: the real sequencer, outbox, supervisor and writer on models of exchange and broker."""
