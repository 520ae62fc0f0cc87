"""Auto-buy: coins bought with the stable money that neither deals nor bots need. Pages and API are beside it."""
