"""Does a dream rank policies as MuJoCo does? Panels of policies, paired episodes, and what must score worse."""
