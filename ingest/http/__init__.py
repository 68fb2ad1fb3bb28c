"""A small HTTP/1.1 server, bounded in time, connections and bytes, that answers while an event loop hangs."""
