"""Every trouble that users, other programs and an adversary reported, played on the real parts."""
