"""A stand-in for the exchange that keeps the truth the client is measured against."""
