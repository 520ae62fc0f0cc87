"""The prop-firm guard: an account stops before it loses more than its firm allows.

* ``rules``: when the day begins and what a drawdown is (pure).
* ``equity``: what the account is worth, from balances and prices; what is not known is no figure.
* ``check``: the question that every order is asked under the account's lock.
* ``service``: measuring, and the kill that follows when a limit is reached.
* ``limits``: changing limits, and releasing an account that was stopped.
* ``closing``: what follows a kill, as often as it takes: bots, resting orders, deals.
"""
