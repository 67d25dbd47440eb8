"""What is kept: the intake journal and its replay."""
