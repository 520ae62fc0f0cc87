"""Trying settings on recorded candles: the decision code of the server on a paper venue in memory. Pure.

``simulate`` (in ``simulation``) takes a :class:`~bots.backtest.spec.Spec` and gives an
:class:`~bots.backtest.spec.Outcome`; ``statistics`` makes figures of it. Services, tasks and pages are one level up.
"""
