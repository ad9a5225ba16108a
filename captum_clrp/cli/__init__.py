"""The command ``captum-clrp``."""
