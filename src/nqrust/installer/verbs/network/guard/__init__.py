"""The dead-man's switch for changes of the host's network (ADR 15).

It puts the old network back unless nqr proves the new one in time. It works on files, links, addresses and routes, and knows
no network manager.
"""
