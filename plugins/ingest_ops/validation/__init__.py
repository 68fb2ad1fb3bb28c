"""The seven-day validation: a day is read from Prometheus once, kept as data, and judged as often as one likes.

``source`` reads raw samples; ``series`` and ``store`` keep a day; ``view`` and ``counting`` turn samples into integers
and slots; ``checks_*`` judge a day; ``week`` joins seven of them; ``mutants`` tries to deceive the judge with altered
copies of its own input; ``report`` says it all. Only ``source`` touches the network, only ``store`` and ``evidence``
the disk.
"""
