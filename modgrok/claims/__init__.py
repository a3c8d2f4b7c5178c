"""The paper's claims judged by runs: rules, verdicts, cost.

May import analysis and all that analysis may import.
"""
