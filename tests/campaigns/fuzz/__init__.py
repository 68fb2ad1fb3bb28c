"""What must hold for any bytes of the exchange, and two ways of looking for those for which it does not."""
