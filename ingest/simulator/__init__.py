"""A simulated exchange whose ledger is the ground truth for tests."""
