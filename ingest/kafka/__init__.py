"""The broker's edge: records, positions and the transactional writer."""
