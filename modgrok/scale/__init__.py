"""Many runs and long ones: sweeps over local processes or SLURM, and their jobs.

May import train and all that train may import.
"""
