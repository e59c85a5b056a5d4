"""Step 1: read the two documents into one typed `Experiment`, or report everything that is wrong with them."""
