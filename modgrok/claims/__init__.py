"""The paper's claims judged by runs: rules, verdicts, cost.

May import analysis and what that may import.
"""
