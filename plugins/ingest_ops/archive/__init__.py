"""Each finished UTC day of a topic as a partition of an Apache Iceberg table, with a certificate."""
