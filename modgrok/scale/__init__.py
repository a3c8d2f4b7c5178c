"""Many runs and long ones: sweeps over local processes or SLURM, their jobs, the benchmark.

May import train and what that may import.
"""
