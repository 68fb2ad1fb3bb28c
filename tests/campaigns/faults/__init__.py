"""Rows 1 to 21 of the fault table over real sockets: what each costs, and an audit after each."""
