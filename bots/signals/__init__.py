"""What bots are told by programs outside: hooks and their secrets, the two inlets, and what conditions make of it."""
