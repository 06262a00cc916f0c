"""Networks of a genotype: cells, training, stretches of bars."""
