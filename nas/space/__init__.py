"""What may be chosen: ops, search space, genotype, discretisation, picture."""
