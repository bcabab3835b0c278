"""Records made visible: a static site that opens by double-click, without a server and without the network it shows."""
