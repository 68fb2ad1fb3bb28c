"""The HTTP endpoints: metrics, health and status without a token, the control API with one."""
