"""Many runs and long ones: sweeps over local processes or SLURM, their jobs, the benchmark.

May import train and all that train may import.
"""
