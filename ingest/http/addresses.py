"""Which addresses are one client."""

import ipaddress


def client_key(client: str) -> str:
    """One client: an IPv4 address, or an IPv6 network of 64 bits, as a host there has all of its addresses."""
    address = ipaddress.ip_address(client.partition("%")[0])
    if address.version == 4:
        return client
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
