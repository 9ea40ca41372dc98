"""What a router left, worked on from outside: its journal and its archive's index made anew, the archive looked at."""
