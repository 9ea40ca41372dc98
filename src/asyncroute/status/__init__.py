"""What an administrator sees of a router and says to it, running or stopped."""
