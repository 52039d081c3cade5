"""What a dynamics is told beside latents: a module for each kind of condition."""
