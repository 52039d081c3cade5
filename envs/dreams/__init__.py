"""The learned environments: dreams single and batched, what they show, and which weights they open."""
