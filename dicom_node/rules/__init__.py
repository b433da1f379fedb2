"""Which series are analysed, in what order, for whom: rules as data."""
