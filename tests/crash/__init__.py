"""Every answer broken once, and a crash before and after every call, on the three local clouds."""
