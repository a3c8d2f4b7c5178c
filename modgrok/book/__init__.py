"""How the book is made: executing notebooks, what a notebook holds, the pages of findings.

May import everything but the command line.
"""
