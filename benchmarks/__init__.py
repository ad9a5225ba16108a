"""Benchmarks: what runs on which network (``architectures``) and what it costs (``speed``).

Both commands put this package beside Captum, Zennit and autoLRP on the same networks, write a JSON
file with everything measured and a Markdown file with the tables. They need the peers, timm and
matplotlib installed; the library itself never imports anything from here.
"""
