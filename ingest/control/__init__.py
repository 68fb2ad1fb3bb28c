"""The HTTP doors: metrics, health and status for anybody, the control API for the holder of the token."""
