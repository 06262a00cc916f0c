"""Units of work of a run, and the engines that compute them."""
