"""The router is killed, at named points and at random, and nothing that was acknowledged is lost."""
