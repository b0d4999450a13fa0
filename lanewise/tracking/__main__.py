"""Starts the deliverer: `python -m lanewise.tracking FOLDER SESSION`; the tracker does so, nobody else."""

from lanewise.tracking.deliver import main

main()
