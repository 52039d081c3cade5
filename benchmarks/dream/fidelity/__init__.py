"""How far can a dream be followed? Open-loop rollouts against MuJoCo, by horizon, beside what must be worse."""
