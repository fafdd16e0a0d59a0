"""How viewers are served: one reading loop, and the framings that make bytes of frames."""
