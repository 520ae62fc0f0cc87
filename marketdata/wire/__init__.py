"""Speaking to exchanges over HTTP: which there are, how a request is sent, and what its failure means.

Public market data (:mod:`marketdata.sources`) and the trading of accounts (:mod:`accounts.exchanges.ccxt`) both stand
on this. ccxt knows each exchange's paths, signatures and error words; what is sent, how often, and what is believed of
the answer is decided here. ccxt itself is only imported when a client is made.
"""
