"""Faults that need a broker of their own kind: three of them, a tiny disk, credentials and ACLs; audited one by one."""
