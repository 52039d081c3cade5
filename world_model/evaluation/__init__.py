"""Is a dream right? One evaluator for all kinds of dynamics, by their interface, while training and when judging."""
