"""What clients see: stream servers and the control socket."""
